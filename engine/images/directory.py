"""A directory of images.

All files are opened relative to one directory descriptor, by names that only the table of kinds can make, and never
through a symlink. So the directory may be renamed under us, and what is in it cannot lead us out of it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from engine.errors import CrError
from engine.images.magic import KINDS, SINGLE
from engine.images.reader import ImageReader
from engine.images.writer import ImageWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, Self

PARENT = "parent"
_OPEN_DIR = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: a FIFO of the name of an image must not stop us before ImageReader can say what it is.
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class ImageDir:
    """The images of one dump.

    A kind is a name of engine.images.magic.KINDS; ids are what its file name pattern takes, mostly one or none:
    ("CORE", 17), ("PSTREE",), ("STATS", "dump"). The work directory, for the kinds that live there, is an ImageDir too.
    Images that go over the network are one as well: engine/transport/remote_images.py.

    has_pages   whether the bytes of pages can be read, rather than only their number
    """

    has_pages = True

    def __init__(self, where: str | int, name: str | None = None, bounded: bool = False) -> None:
        """where: a path, or a directory descriptor, which is duplicated. name: for messages. CrError: no directory.

        bounded: whoever reads is going to do what is in the images; entries with numbers that can't be are refused
        """
        self.bounded = bounded
        self.name = name if name is not None else where if isinstance(where, str) else _name_of(where)
        try:
            self.fd = os.open(where, _OPEN_DIR) if isinstance(where, str) else os.open(".", _OPEN_DIR, dir_fd=where)
        except OSError as error:
            raise CrError(f"images directory {self.name} cannot be opened: {error.strerror}") from error
        self._names: set[str] | None = None
        self._written: set[str] = set()
        self._held: list[ImageWriter] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the directory. Its files are closed by then, so no data depends on it, and it can't fail."""
        if self.fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self.fd)
            self.fd = -1

    def fileno(self) -> int:
        return self.fd

    @property
    def identity(self) -> object:
        """Tells these images from all others."""
        status = os.fstat(self.fd)
        return status.st_dev, status.st_ino

    def path(self, kind: str, *ids: int | str) -> str:
        """What the file is called in messages."""
        return os.path.join(self.name, KINDS[kind].file_name(*ids))

    def exists(self, kind: str, *ids: int | str) -> bool:
        """Whether there is such a file."""
        return self.size_of(kind, *ids) is not None

    def size_of(self, kind: str, *ids: int | str) -> int | None:
        """Bytes of a file; None: there is no such file."""
        try:
            status = os.stat(KINDS[kind].file_name(*ids), dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def ids(self, kind: str) -> list[int]:
        """The numbers of the files there are of a kind that has one number in its name, ascending."""
        prefix, _, suffix = KINDS[kind].pattern.partition("%u")
        numbers = [name[len(prefix) : -len(suffix)] for name in os.listdir(self.fd) if name.endswith(suffix)]
        names = [int(number) for number in numbers if number.isdecimal() and number.isascii() and len(number) < 11]
        return sorted(number for number in names if self.exists(kind, number))

    def remove(self, kind: str, *ids: int | str) -> None:
        """Delete the file if there is one."""
        try:
            os.unlink(KINDS[kind].file_name(*ids), dir_fd=self.fd)
        except FileNotFoundError:
            pass

    def write(self, kind: str, msgs: Any, *ids: int | str) -> None:
        """Write the whole file. msgs: one message, or an iterable of them; of none, no file comes to be."""
        with self.writer(kind, *ids) as writer:
            for msg in _iterable(msgs):
                writer.put(msg)

    def read_one(self, kind: str, *ids: int | str) -> Any:
        """The one message of the file, or the first. CrError: no such file, or anything wrong with it."""
        with self.reader(kind, *ids) as reader:
            for entry in reader:
                if reader.kind.framing == SINGLE:
                    next(reader, None)
                return entry
            raise reader.error("it ends before its first entry")

    def read(self, kind: str, *ids: int | str) -> Iterator[Any]:
        """All messages, one by one. A missing file of an array kind stands for no messages, as CRIU has it."""
        if "single" not in KINDS[kind].framing and not self.exists(kind, *ids):
            return iter(())
        return _drain(self.reader(kind, *ids))

    def writer(self, kind: str, *ids: int | str) -> ImageWriter:
        """A writer, to be used in a `with`. A file that is there is removed at once.

        The directory is listed when it is first written to: most names are free, and to ask for each takes longer.
        """
        row = KINDS[kind]
        name = row.file_name(*ids)
        if self._names is None:
            self._names = set(os.listdir(self.fd))
        writer = ImageWriter(self.fd, row, name, self.path(kind, *ids), self._held)
        if name in self._names:
            writer.remove_stale()
        self._names.add(name)
        self._written.add(name)
        return writer

    def renew(self, parent: str | None = None) -> None:
        """A new set is going to be written. An old one that is there is none from now on: without an inventory.

        parent: where the images are that it builds on, relative to this directory
        """
        try:
            self.remove("INVENTORY")
        except OSError as error:
            raise CrError(f"{self.path('INVENTORY')} is in the way and cannot be removed: {error.strerror}") from error
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(PARENT, dir_fd=self.fd)
            if parent is not None:
                os.symlink(parent, PARENT, dir_fd=self.fd)
                self._written.add(PARENT)
        except OSError as error:
            raise CrError(f"{self.name}/{PARENT} cannot be made: {error.strerror}") from error

    def relative(self, path: str) -> ImageDir:
        """Other images, by a path relative to this directory. CrError: no such directory."""
        try:
            fd = os.open(path, _OPEN_DIR, dir_fd=self.fd)
        except OSError as error:
            raise CrError(f"images directory {path} cannot be opened: {error.strerror}") from error
        try:
            return ImageDir(fd, path, self.bounded)
        finally:
            os.close(fd)

    def discard(self) -> None:
        """The new set is not to be: remove what has been written of it."""
        self._held = None
        for name in self._written:
            try:
                os.unlink(name, dir_fd=self.fd)
            except OSError:
                continue  # never came to be
        self._written.clear()

    def hold_back(self) -> None:
        """Keep complete images in memory from now on, up to settle(): files cost time that a frozen tree has not. Large
        images and those that something else writes to are written all the same."""
        if self._held is None:
            self._held = []
            self._names = set(os.listdir(self.fd))

    def settle(self) -> None:
        """Write what has been held back, in order. CrError: not all of it could be written."""
        held, self._held = self._held or [], None
        for writer in held:
            writer.finish()

    def conclude(self, succeeded: bool) -> None:
        """What was to become of the tree that has been dumped has become of it. Files stay in any case, for people to
        look at. CrError: the images are all there, but whoever is going to read them can't be told."""

    def await_whole(self) -> None:
        """Until nothing stands against making the tree that these are the images of: files are read when their dump is
        over. CrError: something does."""

    def reader(self, kind: str, *ids: int | str) -> ImageReader:
        """A reader, to be used in a `with`. CrError: no such file, or not of this kind."""
        return ImageReader(self.open(kind, *ids), KINDS[kind], self.path(kind, *ids), self.bounded)

    def open(self, kind: str, *ids: int | str) -> int:
        """A descriptor for reading, not checked in any way; the caller closes it. CrError: no such file."""
        try:
            return os.open(KINDS[kind].file_name(*ids), _OPEN_FILE, dir_fd=self.fd)
        except FileNotFoundError:
            raise self.missing(kind, *ids) from None
        except OSError as error:
            raise CrError(f"{self.path(kind, *ids)} ({kind} image) cannot be opened: {error.strerror}") from error

    def missing(self, kind: str, *ids: int | str) -> CrError:
        """The error of there being no such file."""
        remedy = "is this the directory of a complete dump?"
        return CrError(f"{self.path(kind, *ids)} ({kind} image) is missing; {remedy}")

    def parent(self) -> ImageDir | None:
        """The images that an incremental dump builds on, where the symlink `parent` leads to. None: there is none.

        This is the one name that is followed: the link is made by the user (--prev-images-dir) and leads out of the
        directory by its nature. What is opened there follows the same rules as here.
        """
        name = os.path.join(self.name, PARENT)
        try:
            target = os.readlink(PARENT, dir_fd=self.fd)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CrError(f"{name} is no symlink to the parent images: {error.strerror}") from error
        try:
            fd = os.open(PARENT, _OPEN_DIR, dir_fd=self.fd)
        except OSError as error:
            remedy = "put the parent images there"
            raise CrError(f"{name} leads to {target}, which cannot be opened: {error.strerror}; {remedy}") from error
        try:
            return ImageDir(fd, name, self.bounded)
        finally:
            os.close(fd)


def _drain(reader: ImageReader) -> Iterator[Any]:
    with reader:
        yield from reader


def _iterable(msgs: Any) -> Iterable[Any]:
    return (msgs,) if hasattr(msgs, "SerializeToString") else msgs


def _name_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"
