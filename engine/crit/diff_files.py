"""What differs between two descriptor tables.

Numbers that only images have, and inode numbers of what has no name, change from dump to dump. So an open file, pipe or
socket is called by the first descriptor that it has in the tree, "6152/3" for number 3 of task 6152. In the second set
that is the name it has in the first one, as long as one of its descriptors is there still.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from engine.crit.describe import file_name, file_text, kind_of
from engine.crit.diff_fields import fields
from engine.crit.streamed import read_span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.crit.image_set import ImageSet, TaskImages

Message = Any

_IDENTITY = ("id", "ino", "pipe_id", "peer", "regf_id", "tty_info_id", "inode_id", "name")
_AT_ONCE = 1 << 20


class _Called:
    """Names of objects.

    names  by object
    at     by descriptor
    """

    def __init__(self, holders: dict[int, list[str]], earlier: _Called | None) -> None:
        """holders: the descriptors of each object."""
        self.names: dict[int, str] = {}
        self.at: dict[str, str] = {}
        taken: set[str] = set()
        for key, places in holders.items():
            known = [earlier.at[place] for place in places if place in earlier.at] if earlier else []
            name = next((name for name in (*known, *places) if name not in taken), places[0])
            taken.add(name)
            self.names[key] = name
            self.at.update(dict.fromkeys(places, name))


class Files:
    """The open files of one image set, called by their first descriptors. earlier: those of the first set."""

    def __init__(self, images: ImageSet, earlier: Files | None = None) -> None:
        self.images = images
        files: dict[int, list[str]] = {}
        inodes: dict[int, list[str]] = {}
        for task in images.tasks.values():
            for entry in task.fdinfo:
                files.setdefault(entry.id, []).append(f"{task.pid}/{entry.fd}")
                for inode in _inodes(images.file(entry.id)):
                    inodes.setdefault(inode, []).append(f"{task.pid}/{entry.fd}")
        self._files: _Called = _Called(files, earlier._files if earlier else None)
        self._inodes: _Called = _Called(inodes, earlier._inodes if earlier else None)
        images.label = lambda inode: f"[{self._inodes.names.get(inode, 'in flight')}]"
        self._queues = dict(self._read_queues())

    def first(self, file_id: int) -> str:
        """What an open file is called."""
        return self._files.names[file_id]

    def text(self, file_id: int) -> str:
        """What an open file is, as far as it can be compared."""
        entry = self.images.file(file_id)
        return f"{kind_of(entry, self.images)} {file_text(entry, self.images)}".rstrip()

    def queue(self, file_id: int) -> list[tuple[int, str]]:
        """(length, digest) of what waits in it to be read."""
        entry = self.images.file(file_id)
        key = ("pipe", entry.pipe.pipe_id) if entry.HasField("pipe") else ("socket", file_id)
        return self._queues.get(key, [])

    def _read_queues(self) -> Iterator[tuple[tuple[str, int], list[tuple[int, str]]]]:
        found: dict[tuple[str, int], list[tuple[int, str]]] = {}
        for kind, what in ("PIPES_DATA", "pipe"), ("SK_QUEUES", "socket"):
            if not self.images.images.exists(kind):
                continue
            with self.images.images.reader(kind) as reader:
                for entry in reader:
                    span = reader.payload_at()
                    digest = hashlib.sha256()
                    for data in read_span(*span, _AT_ONCE):
                        digest.update(data)
                    key = what, entry.pipe_id if what == "pipe" else entry.id_for
                    found.setdefault(key, []).append((span[2], digest.hexdigest()))
        yield from found.items()


def _inodes(file: Message) -> Iterator[int]:
    if file.HasField("pipe"):
        yield file.pipe.pipe_id
    elif file.HasField("usk"):
        yield file.usk.ino


def descriptors(old: TaskImages, new: TaskImages, before: Files, after: Files) -> Iterator[str]:
    """What differs between the descriptors of a task."""
    tables = [{entry.fd: entry for entry in task.fdinfo} for task in (old, new)]
    for fd in sorted(tables[0].keys() | tables[1].keys()):
        if fd not in tables[1]:
            yield f"fd {fd} ({before.text(tables[0][fd].id)}) is gone"
        elif fd not in tables[0]:
            yield f"fd {fd} ({after.text(tables[1][fd].id)}) is new"
        else:
            yield from _descriptor(fd, tables[0][fd], tables[1][fd], before, after)


def _descriptor(fd: int, was: Message, now: Message, before: Files, after: Files) -> Iterator[str]:
    texts = before.text(was.id), after.text(now.id)
    if texts[0] != texts[1]:
        yield f"fd {fd} was {texts[0]}, is {texts[1]}"
        return
    what = f"fd {fd} ({texts[0]})"
    if was.flags != now.flags:
        yield f"{what}: close-on-exec was {was.flags}, is {now.flags}"
    if before.first(was.id) != after.first(now.id):
        yield f"{what}: was the open file of {before.first(was.id)}, is that of {after.first(now.id)}"
    queues = before.queue(was.id), after.queue(now.id)
    if queues[0] != queues[1]:
        sizes = [sum(size for size, _ in queue) for queue in queues]
        yield f"{what}: had {sizes[0]} bytes queued, has {sizes[1]}" if sizes[0] != sizes[1] else (
            f"{what}: {sizes[0]} bytes queued are others"
        )
    for field in before.images.file(was.id).DESCRIPTOR.fields:
        entries = [files.images.file(entry.id) for files, entry in ((before, was), (after, now))]
        if field.message_type is not None and all(entry.HasField(field.name) for entry in entries):
            one, other = (getattr(entry, field.name) for entry in entries)
            yield from (f"{what}: {line}" for line in fields(one, other, without=_IDENTITY))


def places(old: TaskImages, new: TaskImages, before: ImageSet, after: ImageSet) -> Iterator[str]:
    """Current and root directory, umask and executable."""
    for word, was, now in (
        ("current directory", old.fs.cwd_id, new.fs.cwd_id),
        ("root directory", old.fs.root_id, new.fs.root_id),
        ("executable", old.mm.exe_file_id, new.mm.exe_file_id),
    ):
        names = file_name(was, before), file_name(now, after)
        if names[0] != names[1]:
            yield f"its {word} was {names[0]}, is {names[1]}"
    if old.fs.umask != new.fs.umask:
        yield f"its umask was {old.fs.umask:04o}, is {new.fs.umask:04o}"
