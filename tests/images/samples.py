"""One image of each framing, written by ImageDir, with enough in it that damage can hit anywhere."""

from __future__ import annotations

import os
import tracemalloc
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from engine.images.pagemap import PagemapWriter
from engine.images.runs import LAZY, PAGE, PRESENT
from engine.images.schema import message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from engine.images.directory import ImageDir
    from engine.images.reader import ImageReader
    from engine.images.writer import ImageWriter

_MESSAGE_ALIGN = 8


def _desc(id: int) -> object:
    return message("ipc_desc_entry")(key=0, uid=0, gid=0, cuid=0, cgid=0, mode=0o600, id=id)


def pstree(images: ImageDir) -> None:
    entry = message("pstree_entry")
    images.write("PSTREE", [entry(pid=pid, ppid=0, pgid=1, sid=1, threads=[pid, pid + 9]) for pid in (1, 300)])


def cgroup(images: ImageDir) -> None:
    controller = message("cg_controller_entry")(cnames=["cpu", "cpuacct"])
    controller.dirs.add(dir_name="a").children.add(dir_name="b")
    images.write("CGROUP", message("cgroup_entry")(controllers=[controller]))


def pagemap(images: ImageDir) -> None:
    with images.writer("PAGEMAP", 1) as writer:
        writer.put(message("pagemap_head")(pages_id=1))
        for index in range(3):
            flags = PRESENT | LAZY
            writer.put(message("pagemap_entry")(vaddr=index << 21, compat_nr_pages=3, nr_pages=3, flags=flags))


def pipes_data(images: ImageDir) -> None:
    with images.writer("PIPES_DATA") as writer:
        for pipe_id, data in enumerate((b"hello", b"", b"x" * 300)):
            writer.put(message("pipe_data_entry")(pipe_id=pipe_id, bytes=len(data)))
            writer.put_payload(data)


def tcp_stream(images: ImageDir) -> None:
    fields = {"inq_seq": 1, "outq_seq": 2, "opt_mask": 0, "snd_wscale": 7, "mss_clamp": 1460}
    with images.writer("TCP_STREAM", 0xABC) as writer:
        writer.put(message("tcp_stream_entry")(inq_len=5, outq_len=4, **fields))
        writer.put_payload(b"inputoutp")


def ipc_shm(images: ImageDir) -> None:
    with images.writer("IPCNS_SHM", 9) as writer:
        writer.put(message("ipc_shm_entry")(desc=_desc(1), size=6))
        writer.put_payload(b"shared", align=4)
        writer.put(message("ipc_shm_entry")(desc=_desc(2), size=1 << 40, in_pagemaps=True))


def ipc_sem(images: ImageDir) -> None:
    with images.writer("IPCNS_SEM", 9) as writer:
        for nsems in (1, 5):
            writer.put(message("ipc_sem_entry")(desc=_desc(nsems), nsems=nsems))
            writer.put_payload(b"\x07\0" * nsems, align=8)


def put_ipc_message(writer: ImageWriter, body: bytes) -> None:
    """Append one message of the queue that was put last."""
    writer.put(message("ipc_msg")(mtype=1, msize=len(body)))
    writer.put_payload(body, _MESSAGE_ALIGN)


def ipc_msg(images: ImageDir) -> None:
    with images.writer("IPCNS_MSG", 9) as writer:
        for bodies in ([b"one", b"", b"three or eight"], [], [b"12345678"]):
            writer.put(message("ipc_msg_entry")(desc=_desc(0), qbytes=16384, qnum=len(bodies)))
            for body in bodies:
                put_ipc_message(writer, body)


def put_ghost_chunk(writer: ImageWriter, offset: int, data: bytes) -> None:
    """Append a stretch of data of the ghost file that was put before."""
    writer.put(message("ghost_chunk_entry")(off=offset, len=len(data)))
    writer.put_payload(data)


def ghost(images: ImageDir) -> None:
    with images.writer("GHOST_FILE", 0x1F) as writer:
        writer.put(message("ghost_file_entry")(uid=0, gid=0, mode=0o100600, chunks=True, size=1 << 20))
        for offset, data in ((0, b"start"), (9000, b"middle")):
            put_ghost_chunk(writer, offset, data)


def write_pagemap(images: ImageDir, id: int, runs: Iterable[tuple[int, int, int]], pages: bytes = b"") -> None:
    """A page map id with pages-id.img."""
    with PagemapWriter(images, id, "PAGEMAP", id) as writer:
        os.write(writer.pages_fd, pages)
        writer.write(runs)


def page_of(letter: str, count: int = 1) -> bytes:
    return letter.encode() * PAGE * count


SAMPLES: dict[tuple[str | int, ...], Callable[[ImageDir], None]] = {
    ("PSTREE",): pstree,
    ("CGROUP",): cgroup,
    ("PAGEMAP", 1): pagemap,
    ("PIPES_DATA",): pipes_data,
    ("TCP_STREAM", 0xABC): tcp_stream,
    ("IPCNS_SHM", 9): ipc_shm,
    ("IPCNS_SEM", 9): ipc_sem,
    ("IPCNS_MSG", 9): ipc_msg,
    ("GHOST_FILE", 0x1F): ghost,
}

Sample = tuple[str, int]
"""Kind and number of an image; some have no number."""
every_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample[0])


def write_sample(sample: Sample, images: ImageDir) -> Path:
    """Make an image. Returns its file."""
    SAMPLES[sample](images)
    return Path(images.path(*sample))


def with_changed_bytes(whole: bytes) -> Iterator[bytes]:
    """An image with one byte changed: each of them, in three ways."""
    for offset in range(len(whole)):
        for change in 0x01, 0x80, 0xFF:
            damaged = bytearray(whole)
            damaged[offset] ^= change
            yield bytes(damaged)


@contextmanager
def memory_below(mebibytes: int) -> Iterator[None]:
    """Fails when more memory than that was ever in use."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < mebibytes << 20


def contents(reader: ImageReader) -> list[Any]:
    """Everything in an image: messages and payloads, in order."""
    found: list[Any] = []
    for entry in reader:
        found.append(entry)
        if reader.kind.name == "IPCNS_MSG":
            for _ in range(entry.qnum):
                found.append(reader.entry("ipc_msg"))
                found.append(reader.payload(found[-1].msize, _MESSAGE_ALIGN))
        elif reader.kind.name == "GHOST_FILE" and entry.chunks:
            while reader.left:
                found.append(reader.entry("ghost_chunk_entry"))
                found.append(reader.payload(found[-1].len))
        else:
            found.append(reader.payload())
    return found
