"""crucible dedup, and --auto-dedup: punch pages out of images that nobody needs any more.

A chain of pre-dumps then takes as much on disk as one dump, spread over its directories, and only the last images of it
can be restored. After a restore with --auto-dedup none can.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine import log
from engine.errors import CrError
from engine.images.runs import PAGE, PRESENT
from engine.kernel.libc import NR, syscall

if TYPE_CHECKING:
    from engine.images.directory import ImageDir
    from engine.options import Options

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2


def run(opts: Options) -> int:
    """The verb. Returns the exit status; raises CrError."""
    from engine.images.directory import ImageDir

    with ImageDir(opts.images_dir_fd) as images:
        punched = punch_parents(images)
    log.info(f"{punched} pages have been punched out of parent images")
    return 0


def punch_parents(images: ImageDir) -> int:
    """Punch out of all parents what these images have themselves. Returns the number of pages."""
    images.read_one("INVENTORY")
    return punch_page_maps(images)


def punch_page_maps(images: ImageDir) -> int:
    """The same for images of which the rest may be elsewhere: a page server's."""
    parent = images.parent()
    if parent is None:
        return 0
    with parent:
        return sum(_punch(images, parent, pid) for pid in images.ids("PAGEMAP") if parent.exists("PAGEMAP", pid))


def punch_restored(images: ImageDir) -> None:
    """Punch out all pages, the parents' included, which a restore has read. Raises CrError."""
    from engine.images.pagemap import PageReader

    for kind in ("PAGEMAP", "SHMEM_PAGEMAP"):
        for number in images.ids(kind):
            with PageReader(images, number, kind) as reader:
                for _, nr_pages, fd, offset in reader.all_stored():
                    _punch_hole(fd, offset, nr_pages * PAGE)


def _punch(images: ImageDir, parent: ImageDir, pid: int) -> int:
    """One address space, in all the parents there are."""
    from engine.images.pagemap import PageReader, read_pagemap

    with PageReader(parent, pid) as reader:
        _, runs = read_pagemap(images, pid)
        punched = 0
        for vaddr, nr_pages, flags in runs:
            if not flags & PRESENT:
                continue
            for _, found, fd, offset in reader.all_stored(vaddr, vaddr + nr_pages * PAGE):
                _punch_hole(fd, offset, found * PAGE)
                punched += found
    return punched


def _punch_hole(fd: int, offset: int, size: int) -> None:
    """fallocate(2) on a file that has been opened for reading. Raises CrError where the file system can't do it, and
    for a file with several names: it may be more than an image."""
    if os.fstat(fd).st_nlink > 1:
        raise CrError(f"{os.readlink(f'/proc/self/fd/{fd}')}: has other names, so no hole is punched into it")
    writable = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        syscall(NR["fallocate"], writable, _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE, offset, size)
    except OSError as error:
        name = os.readlink(f"/proc/self/fd/{fd}")
        raise CrError(f"{name}: no hole can be punched: {error.strerror}") from error
    finally:
        os.close(writable)
