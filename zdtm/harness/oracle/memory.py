"""Contents of memory: of the task's own pages, and of objects that live only through the tasks that use them.

Pages are compared by checksum; of small areas the bytes themselves are kept, for a diff that shows where.

What counts is what a task would read. A page that was never touched and a page of zeros are the same, and so are a
private copy of a file's page and the page itself when the bytes agree: engines differ in what they write, rightly.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from zdtm.harness.oracle.kernel import PAGE, anonymous_pages
from zdtm.harness.oracle.maps import Vma

CHUNK = 1 << 20
GUARD = b"a guard page".ljust(PAGE)
"""Stands for the contents of a page that has none, so that a guard that is lost shows as a difference"""
ZERO_SUM = zlib.crc32(bytes(PAGE))
KEEP_BYTES_OF_AREAS_UP_TO = 4 << 20
KEEP_BYTES_OF_TASK = 48 << 20

RSEQ_WRITTEN = ((0, 8), (20, 28))
"""Offsets in struct rseq of what the kernel writes when a thread returns to user mode after it was moved to another
CPU: cpu_id_start and cpu_id, node_id and mm_cid. glibc registers such an area for each thread since 2.35. rseq(2)"""


@dataclass
class Pages:
    """Checksums, and some contents, of the pages of one task that are its own."""

    sums: dict[int, int] = field(default_factory=dict)
    """address -> crc32; 0 bytes only: not in here"""
    kept: dict[int, bytes] = field(default_factory=dict)
    """address -> contents"""
    rseq: list[int] = field(default_factory=list)
    """addresses of rseq areas; what the kernel writes there was taken for zeros"""


def read_pages(pid: int, vmas: list[Vma], rseq: list[int], also: Pages | None = None) -> Pages:
    """Read a task's own pages.

    rseq  addresses of its threads' rseq areas
    also  pages of an earlier picture, which are read even where the task has no page of its own now
    """
    pages = Pages(rseq=rseq)
    private = [vma for vma in vmas if vma.private and vma.has_content]
    memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for vma in private:
            spans = list(anonymous_pages(pid, [(vma.start, vma.end)]))
            total = sum(end - start for start, end in spans)
            keep = total <= KEEP_BYTES_OF_AREAS_UP_TO and len(pages.kept) * PAGE < KEEP_BYTES_OF_TASK
            for start, end in spans:
                _read_span(memory, start, end, pages, keep=keep)
        if also is not None:
            _read_also(memory, private, also, pages)
    finally:
        os.close(memory)
    return pages


def _read_span(memory: int, start: int, end: int, pages: Pages, *, keep: bool) -> None:
    for chunk in range(start, end, CHUNK):
        data = _read(memory, chunk, min(chunk + CHUNK, end))
        for area in (area - chunk for area in pages.rseq if chunk <= area < chunk + len(data)):
            for first, last in RSEQ_WRITTEN:
                data = data[: area + first] + bytes(last - first) + data[area + last :]
        for offset in range(0, len(data), PAGE):
            page = data[offset : offset + PAGE]
            total = zlib.crc32(page)
            if total != ZERO_SUM:
                pages.sums[chunk + offset] = total
                if keep:
                    pages.kept[chunk + offset] = page


def _read(memory: int, start: int, end: int) -> bytes:
    """Guard pages (MADV_GUARD_INSTALL) look like swapped ones, but a read stops before one and fails at one."""
    pieces = []
    while start < end:
        try:
            pieces.append(os.pread(memory, end - start, start))
        except OSError as problem:
            if problem.errno != errno.EIO:
                raise
            pieces.append(GUARD)
        start += len(pieces[-1])
    return b"".join(pieces)


def _read_also(memory: int, vmas: list[Vma], also: Pages, pages: Pages) -> None:
    missing = iter(sorted(also.sums.keys() - pages.sums.keys()))
    address = next(missing, None)
    for vma in vmas:
        while address is not None and address < vma.end:
            # A missing page of a userfaultfd area would make the reader wait for its handler.
            if address >= vma.start and "um" not in vma.flags:
                _read_span(memory, address, address + PAGE, pages, keep=address in also.kept)
            address = next(missing, None)


def page_differences(before: Pages, after: Pages, vmas: list[Vma], pid: int) -> Iterator[tuple[str, str, str]]:
    """Place, what was there, what is there now, for each page that differs. vmas: as they are now."""
    for address in sorted(before.sums.keys() | after.sums.keys()):
        if before.sums.get(address) == after.sums.get(address):
            continue
        if address not in before.sums and _is_the_files(pid, vmas, address, after.sums[address]):
            continue
        zeros = bytes(PAGE)
        old = before.kept.get(address) if address in before.sums else zeros
        new = after.kept.get(address) if address in after.sums else zeros
        where = _where(vmas, address)
        if old is None or new is None:
            yield (
                where,
                f"checksum {before.sums.get(address, ZERO_SUM):08x}",
                f"{after.sums.get(address, ZERO_SUM):08x}",
            )
        else:
            changed = [offset for offset in range(PAGE) if old[offset] != new[offset]]
            first, last = changed[0], changed[-1] + 1
            yield f"{where}, bytes {first:#x} to {last:#x}", _excerpt(old, first, last), _excerpt(new, first, last)


def _where(vmas: list[Vma], address: int) -> str:
    names = (vma.what or "anonymous" for vma in vmas if vma.start <= address < vma.end)
    return f"page {address:#x} of {next(names, 'nothing')}"


def _excerpt(page: bytes, first: int, last: int) -> str:
    text = page[first : min(last, first + 32)].hex(" ", -8)
    return text if last - first <= 32 else f"{text}..."


def _is_the_files(pid: int, vmas: list[Vma], address: int, total: int) -> bool:
    """A private copy that appeared: does it say what the file says?"""
    for vma in vmas:
        if vma.start <= address < vma.end and vma.is_file:
            for name in os.listdir(f"/proc/{pid}/map_files"):
                start, end = (int(part, 16) for part in name.split("-"))
                if start <= address < end:
                    with open(f"/proc/{pid}/map_files/{name}", "rb", buffering=0) as file:
                        page = os.pread(file.fileno(), PAGE, vma.offset + address - vma.start)
                    return zlib.crc32(page.ljust(PAGE, b"\0")) == total
    return False


# Unlinked files, memfds and shared anonymous memory.


def read_contents(descriptor: int) -> dict[str, str]:
    """Checksum of every run of data in a file that only its users keep alive: "pages 3-7" -> crc32. Zeros left out."""
    runs: dict[str, str] = {}
    position, size = 0, os.fstat(descriptor).st_size
    while position < size:
        start = _seek(descriptor, position, os.SEEK_DATA)
        if start is None:
            break
        position = _seek(descriptor, start, os.SEEK_HOLE) or size
        for chunk in range(start, position, CHUNK):
            data = os.pread(descriptor, min(CHUNK, position - chunk), chunk)
            for offset in range(0, len(data), PAGE):
                page = data[offset : offset + PAGE]
                if page.strip(b"\0"):
                    runs[f"byte {chunk + offset:#x}"] = f"checksum {zlib.crc32(page):08x}"
    return runs


def _seek(descriptor: int, position: int, whence: int) -> int | None:
    try:
        return os.lseek(descriptor, position, whence)
    except OSError as problem:
        if problem.errno == errno.ENXIO:
            return None
        raise
