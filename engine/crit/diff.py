"""crucible crit diff: what has become of the tasks of one dump in another, in words."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

from engine.crit.diff_fields import fields
from engine.crit.diff_files import Files, descriptors, places
from engine.crit.diff_memory import mappings, pages
from engine.crit.files import Output, printable
from engine.crit.image_set import ImageSet
from engine.images.text import get_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.crit.image_set import TaskImages

Message = Any

_WITH_ACTIONS = [number for number in range(1, 65) if number not in (signal.SIGKILL, signal.SIGSTOP)]
"""Signals in the order of sigactions in images."""


def diff(first: str, second: str) -> bool:
    """Print what differs between two image sets, a line each. Whether nothing does. CrError: one can't be read."""
    same = True
    with ImageSet(first) as before, ImageSet(second) as after, Output(None) as out:
        for line in _differences(before, after):
            same = False
            out.write(f"{line}\n".encode(errors="backslashreplace"))
    return same


def _differences(before: ImageSet, after: ImageSet) -> Iterator[str]:
    earlier = Files(before)
    files = earlier, Files(after, earlier)
    for pid, task in before.tasks.items():
        if pid not in after.tasks:
            yield f"task {pid} ({printable(task.comm)}) is gone"
            continue
        yield from (f"task {pid}: {line}" for line in _task(task, after.tasks[pid], *files))
    for pid, task in after.tasks.items():
        if pid not in before.tasks:
            yield f"task {pid} ({printable(task.comm)}) is new"
    yield from _shared_memory(before, after)


def _task(old: TaskImages, new: TaskImages, before: Files, after: Files) -> Iterator[str]:
    for word, was, now in (
        ("parent", old.ppid, new.ppid),
        ("process group", old.pgid, new.pgid),
        ("session", old.sid, new.sid),
        ("state", old.state, new.state),
    ):
        if was != now:
            yield f"its {word} was {was}, is {now}"
    yield from _threads(old, new)
    yield from fields(old.core.tc, new.core.tc, without=("task_state", "sigactions"))
    for number, was, now in zip(_WITH_ACTIONS, old.core.tc.sigactions, new.core.tc.sigactions, strict=False):
        yield from (f"the action of signal {number}: {line}" for line in fields(was, now))
    if old.is_dead or new.is_dead:
        return
    yield from places(old, new, before.images, after.images)
    yield from descriptors(old, new, before, after)
    yield from mappings(old, new, before.images, after.images)
    yield from pages(old.pid, "PAGEMAP", before.images, after.images)


def _threads(old: TaskImages, new: TaskImages) -> Iterator[str]:
    """All that belongs to a thread alone."""
    for tid in old.tids:
        if tid not in new.tids:
            yield f"thread {tid} is gone"
        elif not (old.is_dead or new.is_dead):
            yield from (f"thread {tid}: {line}" for line in _thread(old.thread(tid), new.thread(tid)))
    yield from (f"thread {tid} is new" for tid in new.tids if tid not in old.tids)


def _thread(old: Message, new: Message) -> Iterator[str]:
    creds = old.thread_core.creds, new.thread_core.creds
    changed = list(fields(*creds))
    if changed:
        yield f"its credentials differ: {'; '.join(changed)}"
    yield from fields(old.thread_core, new.thread_core, without=("creds",))
    for field in old.DESCRIPTOR.fields:
        if field.name.startswith(("thread_info", "ti_")) and old.HasField(field.name) and new.HasField(field.name):
            yield from _cpu(getattr(old, field.name), getattr(new, field.name))


def _cpu(old: Message, new: Message) -> Iterator[str]:
    """Registers by name; of the others, that they differ."""
    changed = [line.partition(" was ")[0] for line in fields(old.gpregs, new.gpregs)]
    if changed:
        yield f"its registers differ: {', '.join(changed)}"
    for field in old.DESCRIPTOR.fields:
        if field.message_type is not None and field.name != "gpregs":
            parts = getattr(old, field.name), getattr(new, field.name)
            if not field.is_repeated and any(fields(*parts)):
                yield f"its {field.name} differ"
    yield from fields(old, new, without={part.name for part in old.DESCRIPTOR.fields if part.message_type is not None})


def _shared_memory(before: ImageSet, after: ImageSet) -> Iterator[str]:
    """Memory that is nobody's own. The n-th of a name is the n-th of that name in the other set."""
    names = [[(get_text(inode.name), inode) for inode in images.memfds.values()] for images in (before, after)]
    for name in dict.fromkeys(name for name, _ in (*names[0], *names[1])):
        inodes = [[inode for other, inode in side if other == name] for side in names]
        if len(inodes[0]) != len(inodes[1]):
            yield f"memfd:{printable(name)}: there were {len(inodes[0])}, there are {len(inodes[1])}"
        for old, new in zip(*inodes, strict=False):
            what = f"memfd:{printable(name)}"
            yield from (f"{what}: {line}" for line in fields(old, new, without=("inode_id", "shmid", "name")))
            if old.shmid == new.shmid and before.images.exists("SHMEM_PAGEMAP", old.shmid):
                yield from (f"{what}: {line}" for line in pages(old.shmid, "SHMEM_PAGEMAP", before, after))
