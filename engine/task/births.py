"""In which order a tree is born: who clones whom, and who leads a session when.

A task gets its session from its creator at birth and can only change it for one of its own. So every task has a
session that it must be born in: its own for one that leads none, and for a leader that of the children which it had
before setsid(2). Four ways lead to a parent P and a session S:

    P is in S                         P clones
    P was in S before its setsid      P clones first
    a child of P is in S              it clones with CLONE_PARENT
    S lives on, deeper under P        someone there clones a passing task, which clones and exits: the kernel gives an
                                      orphan to the nearest ancestor that is a subreaper, and P is one meanwhile

A session or group whose leader is gone gets a helper with the leader's pid, which exits when all are born. The plan
is made before anything exists, so a tree that can't be is refused in time. Not every tree that can come about can be
planned: a living leader may have risen, as an orphan, past the ancestor of another member.
setsid(2), setpgid(2), clone(2), PR_SET_CHILD_SUBREAPER(2const).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from engine.errors import CrError
from engine.restore_context import RestoredTask
from engine.tape.stub import CLONE_PARENT

if TYPE_CHECKING:
    from collections.abc import Mapping

_OUTSIDE = -1
"""The session that a root is born in which is to lead one: the engine's, which no image knows."""


class Clone(NamedTuple):
    """`creator` makes `task` with these clone flags."""

    creator: RestoredTask
    task: RestoredTask
    flags: int


class Setsid(NamedTuple):
    """`task` becomes the leader of a new session."""

    task: RestoredTask


class Subreaper(NamedTuple):
    """`task` adopts orphans, or does no longer."""

    task: RestoredTask
    adopts: bool


class Exit(NamedTuple):
    """`task`, a helper, exits and `parent` reaps it."""

    task: RestoredTask
    parent: RestoredTask


Step = Clone | Setsid | Subreaper | Exit


class Plan:
    """The steps from the root's stub to the whole tree.

    steps     in order; a creator's before those of what it creates
    helpers   tasks that are no part of the tree, with their parents; they exit when groups have been joined
    pids      numbers of all tasks, threads and helpers
    Raises CrError for sessions that no order of births gives.
    """

    def __init__(
        self,
        root: RestoredTask,
        tasks: list[RestoredTask],
        dead_pids: set[int],
        groups: Mapping[int, int] | None = None,
    ) -> None:
        """dead_pids: of tasks that are dead, but whose files in /proc are open. They get helpers too.

        groups   in the foreground of a terminal, with their sessions. One without members gets a helper, too.
        """
        self.root = root
        self.steps: list[Step] = []
        self.helpers: list[tuple[RestoredTask, RestoredTask]] = []
        self.pids = {tid for task in tasks for tid in (task.pid, *(thread.tid for thread in task.threads))}
        self._session: dict[int, int] = {}
        self._born: list[RestoredTask] = []
        self._homes = self._find_homes(tasks)
        self._wanted = self._birth_sessions(tasks)
        self._unborn = [task for task in tasks if task is not root]
        self._birth(root, root.sid if root.sid != root.pid else _OUTSIDE)
        self._run()
        self._make_group_leaders(tasks)
        self._fill_groups(tasks, groups or {})
        for pid in sorted(dead_pids - self.pids):
            helper = self._helper(pid, root)
            self._clone(root, helper)
            self.helpers.append((helper, root))

    @staticmethod
    def _depth(task: RestoredTask) -> int:
        depth = 0
        while task.parent is not None:
            task, depth = task.parent, depth + 1
        return depth

    def _find_homes(self, tasks: list[RestoredTask]) -> dict[int, RestoredTask]:
        """Where the helper goes that leads a session whose leader is gone: below the deepest parent of a member that
        is not below another member. From there members can rise by being orphaned, but they never sink."""
        homes: dict[int, RestoredTask] = {}
        above: dict[int, frozenset[int]] = {0: frozenset()}
        for task in tasks:
            parent, session = task.parent, task.sid
            inherited = above[parent.pid if parent else 0]
            above[task.pid] = inherited | {session}
            if parent is None or session in inherited or session in self.pids or session == self.root.sid:
                continue
            if session not in homes or self._depth(parent) > self._depth(homes[session]):
                homes[session] = parent
        return homes

    def _birth_sessions(self, tasks: list[RestoredTask]) -> dict[int, int]:
        """The session each task must be born in, 0 where it does not matter. Children before parents.

        A leader must be born in the session that a child of its must be born in, unless that is led from below it.
        """
        by_pid = {task.pid: task for task in tasks}
        wanted: dict[int, int] = {}
        for task in reversed(tasks):
            wanted[task.pid] = task.sid
            if task.sid == task.pid:
                above = (sid for sid in (wanted[child.pid] for child in task.children) if sid not in (0, task.pid))
                origin = ((sid, self._homes.get(sid) or by_pid.get(sid)) for sid in above)
                far = (sid for sid, place in origin if not place or not self._descends(place, task, itself=True))
                wanted[task.pid] = next(far, 0)
        return wanted

    def _birth(self, task: RestoredTask, session: int) -> None:
        self._session[task.pid] = session
        self._born.append(task)

    def _run(self) -> None:
        while self._unborn:
            ways = (
                self._clone_directly,
                self._lead,
                self._clone_by_sibling,
                self._clone_by_orphaning,
                self._make_session_leader,
            )
            if not any(way() for way in ways):
                pids = ", ".join(str(task.pid) for task in self._unborn)
                raise CrError(f"pstree.img: no order of births gives tasks {pids} their parents and sessions")
        while self._lead():
            continue

    def _clone(self, creator: RestoredTask, task: RestoredTask, flags: int = 0) -> None:
        self.steps.append(Clone(creator, task, flags))
        self._birth(task, self._session[creator.pid])
        if task in self._unborn:
            self._unborn.remove(task)

    def _fits(self, creator: RestoredTask, task: RestoredTask) -> bool:
        return self._wanted[task.pid] in (0, self._session[creator.pid])

    def _clone_directly(self) -> bool:
        """Parents that are in the right session now. Leaders-to-be take what needs their first session before."""
        made = False
        for task in list(self._unborn):
            parent = task.parent
            assert parent is not None
            if parent.pid not in self._session or not self._fits(parent, task):
                continue
            if not self._wanted[task.pid] and self._session[parent.pid] != parent.sid:
                continue
            self._clone(parent, task)
            made = True
        return made

    def _lead(self) -> bool:
        """Leaders all of whose first session's children are born make their session."""
        for task in self._born:
            before = self._session[task.pid]
            if task.sid != task.pid or before == task.pid:
                continue
            if any(child in self._unborn and self._wanted[child.pid] == before for child in task.children):
                continue
            self.steps.append(Setsid(task))
            self._session[task.pid] = task.pid
            return True
        return False

    def _clone_by_sibling(self) -> bool:
        for task in self._unborn:
            parent = task.parent
            assert parent is not None
            for sibling in self._born:
                if sibling.parent is parent and self._fits(sibling, task):
                    self._clone(sibling, task, CLONE_PARENT)
                    return True
        return False

    def _clone_by_orphaning(self) -> bool:
        for task in self._unborn:
            parent = task.parent
            assert parent is not None
            for relative in self._born:
                if self._fits(relative, task) and self._descends(relative, parent):
                    passing = self._helper(self._free_pid(), relative)
                    self.steps.append(Subreaper(parent, True))
                    self._clone(relative, passing)
                    self._clone(passing, task)
                    self.steps.append(Exit(passing, relative))
                    self.steps.append(Subreaper(parent, False))
                    self._born.remove(passing)
                    return True
        return False

    @staticmethod
    def _descends(task: RestoredTask, ancestor: RestoredTask, itself: bool = False) -> bool:
        above = task if itself else task.parent
        while above is not None and above is not ancestor:
            above = above.parent
        return above is ancestor

    def _make_session_leader(self) -> bool:
        """The helper for a session whose leader is gone."""
        for session, home in self._homes.items():
            if home.pid in self._session and session not in self.pids:
                leader = self._helper(session, home)
                self._clone(home, leader)
                self.steps.append(Setsid(leader))
                self._session[session] = session
                self.helpers.append((leader, home))
                return True
        return False

    def _make_group_leaders(self, tasks: list[RestoredTask]) -> None:
        """A helper for each process group whose leader is gone, as a child of a member: even one that shall be dead
        still lives, and can wait for it. One for a group that its leader has left, too: it holds the place."""
        alone = {task.pid: task for task in tasks if task.pgid != task.pid}
        for task in tasks:
            if task.pgid == self.root.pgid or task.pgid == task.pid:
                continue
            if task.pgid not in self.pids:
                self._make_member(task.pgid, task)
            elif task.pgid in alone:
                leader = alone.pop(task.pgid)
                self._make_member(self._free_pid(), leader).pgid = task.pgid

    def _fill_groups(self, tasks: list[RestoredTask], groups: Mapping[int, int]) -> None:
        """A helper for each group that must be there and that nobody is in. Its number may be the pid of a task that
        has left it; of one that leads another session now it can't be a group any more."""
        by_pid = {task.pid: task for task in tasks}
        for group, session in groups.items():
            if any(task.pgid == group for task in tasks) or session not in by_pid:
                continue
            if group not in self.pids:
                self._make_member(group, by_pid[session])
            elif group in by_pid and by_pid[group].sid == session:
                self._make_member(self._free_pid(), by_pid[session]).pgid = group

    def _make_member(self, pid: int, parent: RestoredTask) -> RestoredTask:
        helper = self._helper(pid, parent)
        helper.sid = parent.sid
        self._clone(parent, helper)
        self.helpers.append((helper, parent))
        return helper

    def _helper(self, pid: int, parent: RestoredTask) -> RestoredTask:
        helper = RestoredTask(pid, pid, pid, parent)
        self.pids.add(pid)
        self._wanted[pid] = 0
        return helper

    def _free_pid(self) -> int:
        """A pid that neither the tree nor the system uses."""
        with open("/proc/sys/kernel/pid_max") as file:
            candidates = range(int(file.read()) - 1, 1, -1)
        for pid in candidates:
            if pid not in self.pids and not os.path.exists(f"/proc/{pid}"):
                return pid
        raise CrError("no pid is free for a helper task (raise /proc/sys/kernel/pid_max)")

    def joins(self, tasks: list[RestoredTask]) -> list[tuple[RestoredTask, int]]:
        """(task, group) of all setpgid(2) calls, in order. Everybody is born in the group of its session's leader, and
        a group led from outside of the tree is that of the root's creator. First leaders make their groups, then
        others join them, and last those leaders leave who have."""
        everyone = [*tasks, *(helper for helper, _ in self.helpers)]
        groups = {task.pgid for task in everyone if task.pgid != task.sid}
        leaders = [task for task in everyone if task.pid in groups]
        members = [task for task in everyone if task.pid not in groups and task.pgid != task.sid]
        made = [(task, task.pid) for task in leaders]
        joined = [(task, task.pgid) for task in members if task.pgid in self.pids]
        return made + joined + [(task, task.pgid) for task in leaders if task.pgid != task.pid]
