"""Process trees with a past: tasks that fork, leave sessions and groups, adopt and die, as the kernel has it.

A World is what setsid(2), setpgid(2), clone(2), exit(2) and PR_SET_CHILD_SUBREAPER make of a tree, pid by pid. The tree
of a World can exist, since it has come about; and a plan for its births, played in another World, must give it again.
"""

from __future__ import annotations

from typing import NamedTuple

ROOT = 100
OUTSIDE = 1
"""The session and group that the engine itself is in, and the parent of the root."""


class Process:
    """adopts: it is a child subreaper. dead: a zombie."""

    def __init__(self, pid: int, ppid: int, pgid: int, sid: int) -> None:
        self.pid = pid
        self.ppid = ppid
        self.pgid = pgid
        self.sid = sid
        self.adopts = False
        self.dead = False


class Place(NamedTuple):
    """Where a task belongs."""

    ppid: int
    pgid: int
    sid: int
    dead: bool


class World:
    """Starts with one process, the root. Calls that the kernel refuses raise PermissionError."""

    def __init__(self) -> None:
        self.processes = {ROOT: Process(ROOT, OUTSIDE, OUTSIDE, OUTSIDE)}

    def clone(self, creator: int, pid: int, sibling: bool = False) -> None:
        """CLONE_PARENT with `sibling`. A number that is anybody's, even only as a session, is not given out."""
        old = self.processes[creator]
        if pid in self.processes or sibling and creator == ROOT:
            raise PermissionError
        self.processes[pid] = Process(pid, old.ppid if sibling else creator, old.pgid, old.sid)

    def setsid(self, pid: int) -> None:
        """Not for leaders of groups, nor for one whose number a group still bears."""
        process = self.processes[pid]
        if any(other.pgid == pid for other in self.processes.values()):
            raise PermissionError
        process.sid = process.pgid = pid

    def setpgid(self, pid: int, pgid: int) -> None:
        """Not for leaders of sessions; an existing group must be of the same session."""
        process = self.processes[pid]
        members = [other for other in self.processes.values() if other.pgid == pgid]
        if process.sid == pid or (pgid != pid and not any(other.sid == process.sid for other in members)):
            raise PermissionError
        process.pgid = pgid

    def exit(self, pid: int) -> None:
        """Children go to the nearest ancestor that adopts, or leave the tree, with all below them."""
        process = self.processes[pid]
        process.dead = True
        above = process.ppid
        while above in self.processes and not self.processes[above].adopts:
            above = self.processes[above].ppid
        for child in self.children(pid):
            if above in self.processes:
                child.ppid = above
            else:
                self._leave(child.pid)

    def _leave(self, pid: int) -> None:
        for child in self.children(pid):
            self._leave(child.pid)
        del self.processes[pid]

    def reap(self, pid: int) -> None:
        """Its parent has waited for it."""
        if not self.processes[pid].dead:
            raise PermissionError
        del self.processes[pid]

    def children(self, pid: int) -> list[Process]:
        return [process for process in self.processes.values() if process.ppid == pid]

    def numbers(self) -> set[int]:
        """All that no new process can have: pids, and the sessions and groups that outlive their leaders."""
        return {number for p in self.processes.values() for number in (p.pid, p.pgid, p.sid)}

    def places(self) -> dict[int, Place]:
        return {p.pid: Place(p.ppid, p.pgid, p.sid, p.dead) for p in self.processes.values()}
