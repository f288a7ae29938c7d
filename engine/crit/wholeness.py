"""Whether a set of images is whole by itself: each file sound, each of use to another, nothing that is needed missing.

What a restore finds out when it reads the images (engine/restore_check.py) is not looked at again here: this is about
files that a restore would never open, and about what it would only find in the middle of its work.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.crit.identify import by_name, open_image
from engine.crit.payloads import Decoder
from engine.images import magic
from engine.images.pagemap import read_pagemap
from engine.images.runs import PAGE
from engine.objects.remap import GHOST
from engine.task import vma as vmas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.errors import Problems
    from engine.images.directory import ImageDir
    from engine.restore_context import RestoreContext

_OLD_GHOST = 1 << 31
"""In a remap_id of the time before remap_type."""
_DAMAGED = "the image is damaged, or of another dump"


def image_files(path: str) -> list[str]:
    """Names of the images in a directory. Logs and the like are none."""
    return sorted(name for name in os.listdir(path) if by_name(name) is not None)


def check_files(path: str, problems: Problems) -> None:
    """Decode every image but those of pages, and give the result to nobody."""
    for name in image_files(path):
        with problems, open_image(os.path.join(path, name)) as reader:
            if reader.kind.framing == magic.HEAD_ARRAY:
                continue
            for _ in Decoder(reader, pretty=False, with_payload=False).entries():
                pass


class References:
    """Which image belongs to what. ctx: of a restore, with everything read into it."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._images: ImageDir = ctx.images
        self._problems = ctx.problems
        self._pages: dict[int, str] = {}

    def check(self, names: list[str]) -> None:
        """names: of all images that are there."""
        pids = {task.pid for task in self._ctx.tasks}
        known: dict[str, set[int]] = {
            "CORE": pids | self._tids(),
            "GHOST_FILE": set(self._ghosts()),
            "SHMEM_PAGEMAP": set(self._shared_memory()),
            **dict.fromkeys(("IDS", "FS", "MM", "PAGEMAP"), pids),
        }
        if all(task.core is not None for task in self._ctx.tasks):
            known["FDINFO"] = {task.ids.files_id for task in self._ctx.living}
        for kind in "PAGEMAP", "SHMEM_PAGEMAP":
            for number in sorted(known[kind]):
                with self._problems:
                    self._check_pages(kind, number)
        known["PAGES"] = set(self._pages)
        self._check_owners(names, known)
        if self._ctx.entries:
            with self._problems:
                self._check_queues()

    def _tids(self) -> set[int]:
        with self._problems:
            return {tid for entry in self._images.read("PSTREE") for tid in entry.threads}
        return set()

    def _check_owners(self, names: list[str], known: dict[str, set[int]]) -> None:
        """No image may be of something that the set does not have: it would be of another dump."""
        for name in names:
            kind = by_name(name)
            if kind is None or kind.name not in known:
                continue
            if name not in {kind.file_name(number) for number in known[kind.name]}:
                self._problems.add(f"{self._images.name}/{name} belongs to nothing in these images", remedy=_DAMAGED)

    def _check_pages(self, kind: str, number: int) -> None:
        """A pages file must have all pages of its page map, which PageReader sees to, and not one more."""
        if not self._images.exists(kind, number):
            return
        pages_id, runs = read_pagemap(self._images, number, kind)
        name = self._images.path(kind, number)
        if pages_id in self._pages:
            self._problems.add(f"{name} has the same pages file as {self._pages[pages_id]}", remedy=_DAMAGED)
        self._pages[pages_id] = name
        wanted = runs.stored_before()[-1] * PAGE
        found = 0
        if self._images.exists("PAGES", pages_id):
            with self._images.reader("PAGES", pages_id) as reader:
                found = reader.size
        if found != wanted:
            where = self._images.path("PAGES", pages_id)
            self._problems.add(f"{where} has {found} bytes, {name} puts {wanted} there", remedy=_DAMAGED)

    def _ghosts(self) -> Iterator[int]:
        with self._problems:
            for entry in self._images.read("REMAP_FPATH"):
                if entry.remap_type == GHOST or not entry.HasField("remap_type"):
                    yield entry.remap_id & ~_OLD_GHOST

    def _shared_memory(self) -> Iterator[int]:
        with self._problems:
            for inode in self._images.read("MEMFD_INODE"):
                yield inode.shmid
        for task in self._ctx.living:
            for vma in task.mm.vmas if task.mm else ():
                if vma.status & (vmas.ANON_SHARED | vmas.SYSVIPC):
                    yield vma.shmid

    def _check_queues(self) -> None:
        """Whose bytes are these?"""
        files = self._ctx.entries.values()
        pipes = {entry.pipe.pipe_id for entry in files if entry.HasField("pipe")}
        fifos = {entry.fifo.pipe_id for entry in files if entry.HasField("fifo")}
        for kind, known in ("PIPES_DATA", pipes), ("FIFO_DATA", fifos):
            for entry in self._images.read(kind):
                if entry.pipe_id not in known:
                    what = f"{self._images.path(kind)} has data of pipe {entry.pipe_id}, which no file is"
                    self._problems.add(what, remedy=_DAMAGED)
        for packet in self._images.read("SK_QUEUES"):
            named = [packet.id_for, *(number for part in packet.scm for number in part.rights)]
            for number in named:
                if number not in self._ctx.entries:
                    what = f"{self._images.path('SK_QUEUES')} names file {number}, which files.img lacks"
                    self._problems.add(what, remedy=_DAMAGED)


