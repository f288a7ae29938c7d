r"""/proc/PID/smaps: the mappings of a process with their VmFlags (proc_pid_smaps(5), proc_pid_maps(5)).

Only smaps tells what madvise(2) and mlock(2) have done to a mapping: the PROCMAP_QUERY ioctl of Linux 6.11 answers
with read, write, execute and shared, no more. smaps makes the kernel walk the page tables, which costs 10 ms for
1 GiB of resident 4 KiB pages, and some 4 µs a mapping for the text.

Names are not exact: " (deleted)" may be the kernel's remark or the end of a real name, and "\012" may stand for a
newline or for itself. map_file() and stat_map_file() lead to the file itself instead.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from engine.kernel.procfs import raise_missing, read

PROT_READ, PROT_WRITE, PROT_EXEC = 1, 2, 4
_PROT = {
    flags.encode("ascii"): sum(bit for letter, bit in zip(flags, (1, 2, 4), strict=True) if letter != "-")
    for flags in (r + w + x for r in "r-" for w in "w-" for x in "x-")
}


class Vma(NamedTuple):
    """One mapping.

    start, end   addresses, end exclusive. start of a growing stack is that of its lowest page, guard gap not counted.
    prot         PROT_ bits
    shared       made with MAP_SHARED (a droppable mapping, "dp" in flags, is shown as private)
    pgoff        offset in the file in bytes
    dev, ino     of the mapped file, 0 and 0 if none. dev is in os.makedev() form; on btrfs and overlayfs it is the
                 device of the superblock, which stat(2) of the file may contradict.
    name         as shown, decoded, without " (deleted)": a path, "[heap]", "[anon:x]", "/memfd:x", "" for none
    deleted      " (deleted)" was there: the file has been unlinked, or its name really ends so
    flags        two-letter codes of the VmFlags line, such as "gd" (grows down) or "dd" (don't dump)
    page_size    of the mapping in bytes: more than the machine's for hugetlb
    populated    some page is present or swapped
    """

    start: int
    end: int
    prot: int
    shared: bool
    pgoff: int
    dev: int
    ino: int
    name: str
    deleted: bool
    flags: frozenset[str]
    page_size: int
    populated: bool


def read_smaps(pid: int) -> list[Vma]:
    """Mappings in ascending order, vsyscall included. A zombie and a kernel thread have none."""
    return parse_smaps(read(pid, "smaps"))


def parse_smaps(data: bytes) -> list[Vma]:
    # Newlines in names are escaped, so no name can make a line that begins with "VmFlags:". Every piece but the
    # first begins with the flags of the mapping before it.
    first, *rest = data.split(b"\nVmFlags: ")
    known_flags: dict[bytes, frozenset[str]] = {}
    vmas = []
    text = first
    for piece in rest:
        flag_line, _, following = piece.partition(b"\n")
        flags = known_flags.get(flag_line)
        if flags is None:
            flags = known_flags[flag_line] = frozenset(flag_line.decode("ascii").split())
        vmas.append(_parse_vma(text, flags))
        text = following
    return vmas


def _parse_vma(text: bytes, flags: frozenset[str]) -> Vma:
    """text: the line of the maps file and the "Key:  n kB" lines below it."""
    line, _, counts = text.partition(b"\n")
    bounds, access, pgoff, dev, ino, *path = line.split(None, 5)
    start, _, end = bounds.partition(b"-")
    name = path[0] if path else b""
    deleted = name.endswith(b" (deleted)")
    if deleted:
        name = name[:-10]
    if b"\\012" in name:
        name = name.replace(b"\\012", b"\n")
    return Vma(
        int(start, 16),
        int(end, 16),
        _PROT[access[:3]],
        access[3] == 0x73,  # "s"
        int(pgoff, 16),
        0 if dev == b"00:00" else _parse_dev(dev),
        int(ino),
        os.fsdecode(name),
        deleted,
        flags,
        4096 if _SMALL_PAGES in counts else _count(counts, b"KernelPageSize"),
        _NO_RSS not in counts or _NO_SWAP not in counts or "ht" in flags,
    )


# "%-16s%8d kB" in fs/proc/task_mmu.c. Rss does not count hugetlb pages.
_SMALL_PAGES = b"\nKernelPageSize:        4 kB\n"
_NO_RSS = b"\nRss:                   0 kB\n"
_NO_SWAP = b"\nSwap:                  0 kB\n"


def _count(counts: bytes, key: bytes) -> int:
    """One of the "Key:  n kB" lines in bytes."""
    value = counts.partition(b"\n" + key + b":")[2].lstrip()
    return int(value[: value.index(b" ")]) * 1024


def _parse_dev(dev: bytes) -> int:
    major, _, minor = dev.partition(b":")
    return os.makedev(int(major, 16), int(minor, 16))


def stat_map_file(pid: int, vma: Vma) -> os.stat_result:
    """fstat(2) of the mapped file itself, wherever its name went. st_nlink 0: it is certainly deleted.

    With links left, a name that seems deleted is a real one if it still leads to the same st_dev and st_ino.
    Raises FileNotFoundError if nothing is mapped from exactly start to end, or no file is. Needs
    CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN.
    """
    path = map_file(pid, vma)
    try:
        return os.stat(path)
    except OSError as error:
        raise_missing(path, error)


def map_file(pid: int, vma: Vma) -> str:
    """The link that leads to the mapped file itself."""
    return f"/proc/{pid}/map_files/{vma.start:x}-{vma.end:x}"
