"""crucible crit x: what is in a directory of images, as tables."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any

from engine.crit import tables
from engine.crit.describe import file_name, file_text, inet_address, kind_of, mapping_text, protection, socket_name
from engine.crit.files import printable
from engine.crit.image_set import ImageSet
from engine.crit.names import VALUES
from engine.images.pagemap import read_pagemap
from engine.images.runs import PAGE, PRESENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.images.runs import Runs

    Row = tuple[object, ...]


_DEEPEST = 40
"""Indentation in a table of tasks: images may claim any depth."""


def explore(path: str, what: str) -> None:
    """Print one table. what: a key of TABLES. CrError: it is no directory of images, or a damaged one."""
    columns, rows = TABLES[what]
    with ImageSet(path) as images:
        tables.show(columns, list(rows(images)))


def _tasks(images: ImageSet) -> Iterator[Row]:
    """The tree, in its order; each name stands to the right of its parent's."""
    depth: dict[int, int] = {}
    for task in images.tasks.values():
        depth[task.pid] = depth.get(task.ppid, -1) + 1
        name = "  " * min(depth[task.pid], _DEEPEST) + printable(task.comm)
        yield task.pid, task.ppid, task.pgid, task.sid, len(task.tids), task.state, name


def _descriptors(images: ImageSet) -> Iterator[Row]:
    for task in images.tasks.values():
        if task.is_dead:
            continue
        for entry in task.fdinfo:
            file = images.file(entry.id)
            yield task.pid, entry.fd, kind_of(file, images), file_text(file, images)
        for word, file_id in ("cwd", task.fs.cwd_id), ("root", task.fs.root_id), ("exe", task.mm.exe_file_id):
            yield task.pid, word, kind_of(images.file(file_id), images), file_name(file_id, images)


def _mappings(images: ImageSet) -> Iterator[Row]:
    for task in images.tasks.values():
        for vma in task.mm.vmas if task.mm else ():
            size = (vma.end - vma.start) >> 10
            yield task.pid, f"{vma.start:x}-{vma.end:x}", protection(vma), size, mapping_text(vma, images)


def _resident(images: ImageSet) -> Iterator[Row]:
    """Of each mapping with pages in the images, how many; then how many each task has."""
    for task in images.tasks.values():
        if task.mm is None:
            continue
        _, runs = read_pagemap(images.images, task.pid)
        total = 0
        for vma in task.mm.vmas:
            stored, elsewhere = _pages_within(runs, vma.start, vma.end)
            if stored or elsewhere:
                size = (vma.end - vma.start) // PAGE
                area = f"{vma.start:x}-{vma.end:x}"
                yield task.pid, area, size, stored, elsewhere, mapping_text(vma, images)
            total += stored
        yield task.pid, "all", "", total, "", ""


def _pages_within(runs: Runs, start: int, end: int) -> tuple[int, int]:
    """How many pages of an area are in these images, and how many in those of the parent or with a server."""
    stored = elsewhere = 0
    for index in range(max(bisect_right(runs.vaddr, start) - 1, 0), len(runs)):
        vaddr, nr_pages, flags = runs[index]
        if vaddr >= end:
            break
        count = max((min(vaddr + nr_pages * PAGE, end) - max(vaddr, start)) // PAGE, 0)
        if flags & PRESENT:
            stored += count
        else:
            elsewhere += count
    return stored, elsewhere


def _sockets(images: ImageSet) -> Iterator[Row]:
    """Every socket with the descriptors that lead to it. Those in flight have none."""
    holders: dict[int, list[str]] = {}
    for task in images.tasks.values():
        for entry in task.fdinfo:
            holders.setdefault(entry.id, []).append(f"{task.pid}/{entry.fd}")
    queued: dict[int, int] = {}
    for packet in images.images.read("SK_QUEUES"):
        queued[packet.id_for] = queued.get(packet.id_for, 0) + packet.length
    for file_id, file in images.files.items():
        where = ",".join(holders.get(file_id, ["-"]))
        if file.HasField("usk"):
            sk, peer = file.usk, images.sockets.get(file.usk.peer)
            to = (socket_name(peer) if peer is not None else "") or (f"[{sk.peer}]" if sk.peer else "-")
            names = printable(socket_name(sk) or "-"), printable(to)
            yield where, "UNIX", *_type_and_state(sk), sk.ino, queued.get(file_id, 0), *names
        elif file.HasField("isk"):
            sk = file.isk
            local, remote = inet_address(sk.src_addr, sk.src_port), inet_address(sk.dst_addr, sk.dst_port)
            family = VALUES["sk.family"].get(sk.family, sk.family)
            yield where, family, *_type_and_state(sk), sk.ino, queued.get(file_id, 0), local, remote
        elif file.HasField("nlsk"):
            yield where, "NETLINK", "RAW", "-", file.nlsk.ino, 0, file.nlsk.portid, file.nlsk.dst_portid
        elif file.HasField("psk"):
            yield where, "PACKET", VALUES["sk.type"].get(file.psk.type, file.psk.type), "-", "-", 0, "-", "-"


def _type_and_state(sk: Any) -> tuple[object, object]:
    return VALUES["sk.type"].get(sk.type, sk.type), VALUES["sk.state"].get(sk.state, sk.state)


TABLES: dict[str, tuple[str, Callable[[ImageSet], Iterator[Row]]]] = {
    "ps": (">PID >PPID >PGID >SID >THREADS STATE COMM", _tasks),
    "fds": (">PID >FD KIND WHAT", _descriptors),
    "mems": (">PID ADDRESS PROT >KIB WHAT", _mappings),
    "rss": (">PID ADDRESS >PAGES >STORED >ELSEWHERE WHAT", _resident),
    "sk": ("PID/FD FAMILY TYPE STATE >INODE >QUEUED NAME PEER", _sockets),
}
