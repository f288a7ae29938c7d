"""pstree.img and ids-PID.img: who is whose child, and which kernel objects tasks share."""

from __future__ import annotations

import errno
import os
from functools import cache
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.restore_context import RestoredTask, RestoredThread
from engine.task.tree import ALIVE, DEAD, STOPPED

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext
    from engine.task.tree import Task

Message = Any

_DAMAGED = "the image is damaged"
_NAMESPACES = ("pid", "net", "ipc", "uts", "time", "mnt", "user", "cgroup")
"""The order in which the engine's own namespaces are numbered, from 1."""
_PID_MAX_LIMIT = 1 << 22


def write(ctx: DumpContext) -> None:
    """pstree.img: a preorder walk. A zombie has the thread list [0]."""
    from engine.images.schema import message

    entries = []
    for task in ctx.tasks:
        entry = message("pstree_entry")(pid=task.pid, ppid=task.ppid, pgid=task.pgid, sid=task.sid)
        entry.threads.extend([thread.tid for thread in task.all_threads] or [0])
        entries.append(entry)
    ctx.images.write("PSTREE", entries)


def namespace_ids(pid: int) -> dict[str, int]:
    """Inode numbers of a task's namespaces by the names of their links."""
    return {name: os.stat(f"/proc/{pid}/ns/{name}").st_ino for name in _NAMESPACES}


def own_namespaces() -> dict[str, int]:
    """Those of the engine. A fork may be in others."""
    return _namespaces_of(os.getpid())


_namespaces_of = cache(namespace_ids)


def own_ids() -> Message:
    """inventory.root_ids: the engine's own set, number 1 of everything; namespaces are numbered in order."""
    from engine.images.schema import message

    ids = message("task_kobj_ids_entry")(vm_id=1, files_id=1, fs_id=1, sighand_id=1)
    for number, name in enumerate(_NAMESPACES, 1):
        setattr(ids, f"{name}_ns_id", number)
    return ids


def collect_ids(ctx: DumpContext) -> dict[int, Message]:
    """task_kobj_ids_entry of every living task, by pid. Sharing that has no place in images is refused."""
    from engine.images.schema import message
    from engine.kernel.kcmp import KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_VM, KobjIds

    own = os.getpid()
    trees = {
        "vm_id": KobjIds(KCMP_VM, own),
        "files_id": KobjIds(KCMP_FILES, own),
        "fs_id": KobjIds(KCMP_FS, own),
        "sighand_id": KobjIds(KCMP_SIGHAND, own),
    }
    host = own_namespaces()
    result: dict[int, Message] = {}
    for task in ctx.tasks:
        if task.state == DEAD:
            continue
        if not _can_be_reached(ctx, task):
            continue
        ids = message("task_kobj_ids_entry")()
        for field, tree in trees.items():
            number, is_new = tree.add(task.proc)
            setattr(ids, field, number)
            if not is_new and field != "files_id":
                what = {"vm_id": "its memory", "fs_id": "root, cwd and umask", "sighand_id": "its signal handlers"}
                ctx.problems.add(f"shares {what[field]} with another task of the tree", task.pid, "wait for its exec")
        for name, inode in namespace_ids(task.proc).items():
            if inode != host[name]:
                problem = f"has its own {name} namespace, which can't be dumped"
                ctx.problems.add(problem, task.pid, "start it in the engine's namespaces")
            setattr(ids, f"{name}_ns_id", _NAMESPACES.index(name) + 1)
        result[task.pid] = ids
    if any(task.state != DEAD and task.pid not in result for task in ctx.tasks):
        ctx.problems.raise_if_any("dump")
    return result


def _can_be_reached(ctx: DumpContext, task: Task) -> bool:
    try:
        return task.pidfd >= 0
    except OSError as error:
        if not task.dead_leader or error.errno != errno.EINVAL:
            raise
    problem = "its leading thread has exited, and this kernel lets nobody take the descriptors of the others"
    ctx.problems.add(problem, task.pid, "use Linux 6.9 or newer, or let the other threads end, too")
    return False


def check_leaders(ctx: DumpContext) -> None:
    """The root must lead its session, and all sessions and groups must be led from inside the tree or by nobody that
    lives. With --shell-job the root, and others with it, may be in one session and group of the outside."""
    root = ctx.root
    inside = {task.pid for task in ctx.tasks}
    if root.sid != root.pid and ctx.opts.shell_job:
        inside |= {root.sid, root.pgid}
    elif root.sid != root.pid:
        problem = f"is not the leader of its session {root.sid}"
        ctx.problems.add(problem, root.pid, "start it with setsid, or use --shell-job")
        return
    for task in ctx.tasks:
        for name, leader in (("session", task.sid), ("process group", task.pgid)):
            if leader not in inside and os.path.exists(f"/proc/{leader}"):
                ctx.problems.add(f"its {name} {leader} is led from outside the tree", task.pid, "dump that one as well")


# Restore


def read(ctx: RestoreContext) -> RestoredTask:
    """The tree of pstree.img. Raises CrError for a tree that is none. Cores and ids of a task that can't be read are
    problems; the task is there without them."""
    by_pid: dict[int, RestoredTask] = {}
    tids: set[int] = set()
    with ctx.images.reader("PSTREE") as reader:
        entries = list(reader)
    for entry in entries:
        parent = by_pid.get(entry.ppid)
        if (parent is None) != (not by_pid) or (parent is None and entry.ppid):
            what = f"pstree.img: task {entry.pid} has a parent, {entry.ppid}, that does not precede it"
            raise CrError(f"{what}; {_DAMAGED}")
        task = RestoredTask(entry.pid, entry.pgid, entry.sid, parent)
        if parent:
            parent.children.append(task)
        by_pid[task.pid] = task
        _check_numbers(entry, tids)
        with ctx.problems:
            _read_leader(ctx, task, entry.threads)
        for tid in entry.threads[1:]:
            with ctx.problems:
                task.threads.append(RestoredThread(tid, ctx.images.read_one("CORE", tid)))
    if not by_pid or next(iter(by_pid.values())).is_dead:
        raise CrError(f"pstree.img has no task, or a dead one at its root; {_DAMAGED}")
    ctx.tasks = list(by_pid.values())
    root = ctx.tasks[0]
    if root.sid != root.pid and not ctx.opts.shell_job:
        problem = f"was dumped with --shell-job, in session {root.sid} of its shell"
        ctx.problems.add(problem, root.pid, "use --shell-job, it will be in the session of the engine")
    return root


def check_namespaces(ctx: RestoreContext, dumpers: Message) -> None:
    """All tasks must have been in the namespaces of the engine that dumped them: there are no others. dumpers:
    root_ids of the inventory; what has no number there, or at the task, says nothing."""
    for task in ctx.living:
        for name in _NAMESPACES:
            field = f"{name}_ns_id"
            if task.ids is None or not (dumpers.HasField(field) and task.ids.HasField(field)):
                continue
            if getattr(task.ids, field) != getattr(dumpers, field):
                problem = f"was dumped in its own {name} namespace, which can't be made"
                ctx.problems.add(problem, task.pid, "dump a tree that has no namespaces of its own")


def _check_numbers(entry: Message, known: set[int]) -> None:
    """Every number must be possible, and every thread's be its own. The leader comes first; a zombie's is 0, or what
    happened to lie in CRIU's memory (3.17)."""
    if not entry.threads:
        raise CrError(f"pstree.img: task {entry.pid} has no leader among its threads; {_DAMAGED}")
    for tid in (entry.pid, *entry.threads[1:]):
        if not 0 < tid < _PID_MAX_LIMIT or tid in known:
            raise CrError(f"pstree.img: {tid} is not a possible pid here, or is there twice; {_DAMAGED}")
        known.add(tid)
    if max(entry.pgid, entry.sid) >= _PID_MAX_LIMIT:
        what = f"group {entry.pgid} or session {entry.sid} of task {entry.pid} is not possible"
        raise CrError(f"pstree.img: {what}; {_DAMAGED}")


def _read_leader(ctx: RestoreContext, task: RestoredTask, tids: list[int]) -> None:
    core = ctx.images.read_one("CORE", task.pid)
    if not core.HasField("tc") or core.tc.task_state not in (ALIVE, DEAD, STOPPED):
        raise CrError(f"core-{task.pid}.img has no task part (tc), or one in no known state; {_DAMAGED}")
    if task.parent is not None and task.parent.is_dead:
        raise CrError(f"pstree.img: task {task.pid} is the child of a dead one; {_DAMAGED}")
    is_dead = core.tc.task_state == DEAD
    is_zombie = is_dead and len(tids) == 1
    if (tids[0] == task.pid) == is_zombie:
        raise CrError(f"pstree.img: task {task.pid} lives without a leader, or is dead with one; {_DAMAGED}")
    if is_dead and not is_zombie:
        task.dead_leader = RestoredThread(task.pid, core)
    task.core = core
    if not is_dead:
        task.threads.append(RestoredThread(task.pid, core))
    if not task.is_dead:
        task.ids = ctx.images.read_one("IDS", task.pid)
