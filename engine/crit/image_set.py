"""The images of a dump as tasks and what they have, for the verbs that speak of these."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.images.schema import enum

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

Message = Any

ALIVE, DEAD, STOPPED = 1, 2, 3
_STATES = {ALIVE: "running", DEAD: "zombie", STOPPED: "stopped"}
_PROCFS = 2


class TaskImages:
    """What the images have of one task. All of it is read when it is asked for; None where a zombie has none."""

    def __init__(self, images: ImageDir, entry: Message) -> None:
        self._images = images
        self.pid: int = entry.pid
        self.ppid: int = entry.ppid
        self.pgid: int = entry.pgid
        self.sid: int = entry.sid
        self.tids: list[int] = list(entry.threads)

    @cached_property
    def core(self) -> Message:
        """core_entry of the leader."""
        core = self._images.read_one("CORE", self.pid)
        if not core.HasField("tc"):
            raise CrError(f"{self._images.path('CORE', self.pid)} has no task part (tc); the image is damaged")
        return core

    def thread(self, tid: int) -> Message:
        """core_entry of a thread."""
        return self.core if tid == self.pid else self._images.read_one("CORE", tid)

    @property
    def state(self) -> str:
        """In a word."""
        number = self.core.tc.task_state
        return _STATES.get(number, f"state {number}")

    @property
    def is_dead(self) -> bool:
        return bool(self.core.tc.task_state == DEAD)

    @property
    def comm(self) -> str:
        from engine.images.text import get_text

        return get_text(self.core.tc.comm)

    @cached_property
    def ids(self) -> Message:
        return None if self.is_dead else self._images.read_one("IDS", self.pid)

    @cached_property
    def mm(self) -> Message:
        return None if self.is_dead else self._images.read_one("MM", self.pid)

    @cached_property
    def fs(self) -> Message:
        return None if self.is_dead else self._images.read_one("FS", self.pid)

    @cached_property
    def fdinfo(self) -> list[Message]:
        """Its descriptor table, ascending."""
        if self.ids is None:
            return []
        return sorted(self._images.read("FDINFO", self.ids.files_id), key=lambda entry: int(entry.fd))


class ImageSet:
    """One directory of images. Its `with` closes it.

    label  how pipes and sockets without a name are called, by inode number
    """

    def __init__(self, path: str) -> None:
        """CrError: there is no such directory. What is not in it is an error when it is asked for."""
        self.path = path
        self.images = ImageDir(path)
        self.label: Callable[[int], str] = lambda inode: f"[{inode}]"
        self.type_names = {number: name for name, number in enum("fd_types").items()}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.images.close()

    @cached_property
    def tasks(self) -> dict[int, TaskImages]:
        """By pid, in the order of pstree.img."""
        with self.images.reader("PSTREE") as reader:
            return {entry.pid: TaskImages(self.images, entry) for entry in reader}

    @cached_property
    def files(self) -> dict[int, Message]:
        """file_entry by id. Where there are two of one id, as of a tun device and its path, the last."""
        return {entry.id: entry for entry in self.images.read("FILES")}

    @cached_property
    def deleted(self) -> set[int]:
        """Ids of files that can't be reached by their names."""
        remaps = self.images.read("REMAP_FPATH")
        return {entry.orig_id for entry in remaps if entry.remap_type != _PROCFS}

    @cached_property
    def memfds(self) -> dict[int, Message]:
        """memfd_inode_entry by inode_id."""
        return {entry.inode_id: entry for entry in self.images.read("MEMFD_INODE")}

    @cached_property
    def terminals(self) -> dict[int, Message]:
        """tty_info_entry by id."""
        return {entry.id: entry for entry in self.images.read("TTY_INFO")}

    @cached_property
    def sockets(self) -> dict[int, Message]:
        """unix_sk_entry by inode number."""
        return {entry.usk.ino: entry.usk for entry in self.files.values() if entry.HasField("usk")}

    def file(self, file_id: int) -> Message:
        """CrError: files.img has no such file."""
        if file_id not in self.files:
            raise CrError(f"{self.images.path('FILES')} lacks file {file_id}, which another image names")
        return self.files[file_id]
