"""inotify instances and fanotify groups, dumped and made again in the test process."""

from __future__ import annotations

import errno
import os
import struct
from typing import TYPE_CHECKING, NoReturn

import pytest

from engine.errors import CrError, Refused
from engine.kernel import notify
from engine.kernel.kernel_memory import kernel_memory
from engine.kernel.proc_fdinfo import fdinfo_fanotify, fdinfo_inotify, read_fdinfo

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.kernel.proc_fdinfo import Fanotify, InotifyWatch
    from tests.objects.conftest import Cycle

IN_ACCESS, IN_MODIFY, IN_OPEN, IN_CREATE, IN_DELETE = 0x01, 0x02, 0x20, 0x100, 0x200
IN_ALL_EVENTS = 0xFFF
IN_EXCL_UNLINK, IN_ONESHOT = 0x04000000, 0x80000000
FAN_OPEN, FAN_MODIFY, FAN_ONDIR, FAN_EVENT_ON_CHILD = 0x20, 0x02, 0x40000000, 0x08000000
FAN_MARK_FILESYSTEM = 0x100
_EVENT = struct.Struct("=iIII")


@pytest.fixture(autouse=True, scope="module")
def look_into_the_kernel() -> None:
    """What that takes stays open ever after."""
    kernel_memory()


@pytest.fixture
def inotify() -> Iterator[int]:
    fd = notify.inotify_init()
    yield fd
    os.close(fd)


@pytest.fixture
def fanotify() -> Iterator[int]:
    fd = notify.fanotify_init(0, os.O_RDONLY)
    yield fd
    os.close(fd)


def watches(fd: int) -> list[InotifyWatch]:
    return fdinfo_inotify(read_fdinfo(os.getpid(), fd))


def group(fd: int) -> Fanotify:
    return fdinfo_fanotify(read_fdinfo(os.getpid(), fd))


def events(fd: int) -> list[tuple[int, int, str]]:
    """(wd, mask, name) of all that wait."""
    found = []
    while notify.bytes_of_events(fd):
        data = os.read(fd, 4096)
        while data:
            wd, mask, _, length = _EVENT.unpack_from(data)
            found.append((wd, mask, os.fsdecode(data[_EVENT.size : _EVENT.size + length].rstrip(b"\0"))))
            data = data[_EVENT.size + length :]
    return found


def test_watches(cycle: Cycle, place: Path, inotify: int) -> None:
    """Same descriptors, masks and files, and the next one does not get an old number."""
    (place / "file").touch()
    for wd, name, mask in ((3, place, IN_ALL_EVENTS), (70000, place / "file", IN_ACCESS | IN_ONESHOT | IN_EXCL_UNLINK)):
        notify.inotify_add_watch(inotify, str(name), mask, wd)
    os.set_blocking(inotify, False)
    cycle.dump(inotify)
    (new,) = cycle.restore()
    assert sorted(watches(new)) == sorted(watches(inotify))
    assert not os.get_blocking(new)
    assert events(new) == []
    (place / "another").touch()
    assert (3, IN_CREATE, "another") in events(new)


@pytest.fixture
def watched(place: Path, inotify: int) -> Path:
    """A file whose changes the instance tells of, as watch 1."""
    (place / "file").touch()
    notify.inotify_add_watch(inotify, str(place / "file"), IN_MODIFY, 1)
    return place / "file"


def test_watched_file_was_renamed(cycle: Cycle, watched: Path, inotify: int) -> None:
    """The path of the image leads to another file by now: it is found by its handle."""
    cycle.dump(inotify)
    os.rename(watched, watched.with_name("renamed"))
    watched.touch()
    (new,) = cycle.restore()
    watched.write_bytes(b"x")
    assert events(new) == []
    watched.with_name("renamed").write_bytes(b"x")
    assert (1, IN_MODIFY, "") in events(new)


def test_watched_file_has_another_inode(cycle: Cycle, watched: Path, inotify: int) -> None:
    """As on another machine: the path is all there is."""
    cycle.dump(inotify)
    item = cycle.dump_context.entries[0].ify.wd[0]
    item.i_ino += 1
    item.s_dev = 0xFFFFF
    (new,) = cycle.restore()
    watched.write_bytes(b"x")
    assert (1, IN_MODIFY, "") in events(new)


def test_watched_file_is_gone(cycle: Cycle, watched: Path, inotify: int) -> None:
    cycle.dump(inotify)
    watched.unlink()
    events(inotify)
    with pytest.raises(CrError, match=r"place/file, which was watched, can't be found: .* \(put it back\)"):
        cycle.restore()


def test_deleted_file(cycle: Cycle, place: Path, inotify: int) -> None:
    """It comes back as a ghost, and is watched again."""
    fd = os.open(place / "file", os.O_RDWR | os.O_CREAT)
    notify.inotify_add_watch(inotify, str(place / "file"), IN_MODIFY, 1)
    os.unlink(place / "file")
    cycle.dump(inotify, fd)
    new, file = cycle.restore()
    assert watches(new)[0].ino == os.fstat(file).st_ino
    os.write(file, b"x")
    assert events(new) == [(1, IN_MODIFY, "")]
    os.close(fd)


def test_deleted_file_that_nobody_has(cycle: Cycle, place: Path, inotify: int) -> None:
    fd = os.open(place / "file", os.O_RDWR | os.O_CREAT)
    notify.inotify_add_watch(inotify, str(place / "file"), IN_MODIFY, 1)
    os.unlink(place / "file")
    with pytest.raises(Refused, match="which is deleted and not open in any task of the tree"):
        cycle.dump(inotify)
    os.close(fd)


def test_waiting_events(cycle: Cycle, place: Path, inotify: int) -> None:
    notify.inotify_add_watch(inotify, str(place), IN_CREATE, 1)
    (place / "file").touch()
    (message,) = cycle.dump(inotify)
    assert [(event.wd, event.mask, event.name) for event in message.event] == [(1, IN_CREATE, b"file")]
    (new,) = cycle.restore()
    (place / "other").touch()
    assert events(new) == [(1, IN_CREATE, "file"), (1, IN_CREATE, "other")]


def test_waiting_events_that_cannot_be_seen(
    cycle: Cycle, place: Path, inotify: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_bpf(_fd: int) -> NoReturn:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    notify.inotify_add_watch(inotify, str(place), IN_CREATE, 1)
    (place / "file").touch()
    monkeypatch.setattr("engine.objects.inotify.inotify_queue", no_bpf)
    with pytest.raises(Refused, match="inotify events wait to be read, .* can't be seen .*not permitted"):
        cycle.dump(inotify)


def test_waiting_event_that_cannot_be(cycle: Cycle, place: Path, inotify: int) -> None:
    (message,) = cycle.dump(inotify)
    cycle.dump_context.entries[0].ify.event.add(wd=1, mask=IN_CREATE, name=b"../x")
    with pytest.raises(Refused, match="event 0x100 of watch 1 is no possible one"):
        cycle.check()


def test_file_system_without_handles(cycle: Cycle, inotify: int) -> None:
    notify.inotify_add_watch(inotify, "/proc/self/stat", IN_OPEN, 1)
    with pytest.raises(Refused, match="remove the watch"):
        cycle.dump(inotify)


def test_dump_and_restore_make_no_events(cycle: Cycle, place: Path, inotify: int) -> None:
    """Not even at the mount point of a file system."""
    for wd, name in enumerate((str(place), "/dev/shm"), 1):
        notify.inotify_add_watch(inotify, name, IN_OPEN | IN_CREATE | IN_DELETE, wd)
    cycle.dump(inotify)
    (new,) = cycle.restore()
    assert events(inotify) == events(new) == []


def test_impossible_watch_descriptor(cycle: Cycle, place: Path, inotify: int) -> None:
    notify.inotify_add_watch(inotify, str(place), IN_OPEN, 1)
    cycle.dump(inotify)
    cycle.dump_context.entries[0].ify.wd[0].wd = 1 << 31
    with pytest.raises(Refused, match="has a watch descriptor that can't be"):
        cycle.check()


def test_fanotify_marks(cycle: Cycle, place: Path, fanotify: int) -> None:
    (place / "file").touch()
    add, name = notify.FAN_MARK_ADD, str(place / "file")
    notify.fanotify_mark(fanotify, add, FAN_OPEN | FAN_EVENT_ON_CHILD | FAN_ONDIR, str(place))
    notify.fanotify_mark(fanotify, add, FAN_OPEN, name)
    survives = notify.FAN_MARK_IGNORED_SURV_MODIFY
    notify.fanotify_mark(fanotify, add | notify.FAN_MARK_IGNORED_MASK | survives, FAN_MODIFY, name)
    notify.fanotify_mark(fanotify, add | notify.FAN_MARK_MOUNT, FAN_MODIFY, "/dev/shm")
    notify.drop_fanotify_events(fanotify)
    cycle.dump(fanotify)
    (new,) = cycle.restore()
    assert group(new).flags == group(fanotify).flags
    assert group(new).event_flags == group(fanotify).event_flags
    assert sorted(map(str, group(new).marks)) == sorted(map(str, group(fanotify).marks))
    assert len(group(new).marks) == 3
    assert notify.bytes_of_events(new) == 0
    (place / "file").read_bytes()
    assert notify.bytes_of_events(new) > 0
    notify.drop_fanotify_events(new)


def test_fanotify_flags(cycle: Cycle) -> None:
    fd = notify.fanotify_init(0x10 | 0x04, os.O_RDWR | os.O_APPEND)  # FAN_UNLIMITED_QUEUE, FAN_CLASS_CONTENT
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert group(new) == group(fd)
    os.close(fd)


def test_fanotify_mark_on_a_file_system(cycle: Cycle, fanotify: int) -> None:
    notify.fanotify_mark(fanotify, notify.FAN_MARK_ADD | FAN_MARK_FILESYSTEM, FAN_MODIFY, "/dev/shm")
    with pytest.raises(Refused, match="has a mark on a whole file system"):
        cycle.dump(fanotify)


def test_waiting_fanotify_events(cycle: Cycle, place: Path, fanotify: int) -> None:
    (place / "file").touch()
    notify.fanotify_mark(fanotify, notify.FAN_MARK_ADD, FAN_OPEN, str(place / "file"))
    (place / "file").read_bytes()
    with pytest.raises(Refused, match="bytes of fanotify events wait to be read"):
        cycle.dump(fanotify)
    notify.drop_fanotify_events(fanotify)
