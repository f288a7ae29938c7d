"""Events that happen again in a new inotify instance, held against those that happened in an old one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.kernel import inotify_queue as kernel
from engine.kernel.inotify_queue import IN_CREATE, IN_DELETE_SELF, IN_IGNORED, IN_ISDIR, IN_MOVED_FROM, IN_MOVED_TO
from engine.kernel.inotify_queue import InotifyEvent as Event
from engine.kernel.notify import bytes_of_events, inotify_add_watch, inotify_init, inotify_rm_watch
from engine.objects import inotify_events
from engine.objects.inotify_check import problem
from engine.objects.inotify_events import Replay

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_ALL_EVENTS = 0xFFF


@pytest.fixture
def instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """Two instances. The first watches the directory "d" as 1 and the file "f" as 7."""
    monkeypatch.chdir(tmp_path)
    os.mkdir("d")
    Path("f").write_text("x")
    one, other = inotify_init(), inotify_init()
    inotify_add_watch(one, "d", IN_ALL_EVENTS, 1)
    inotify_add_watch(one, "f", IN_ALL_EVENTS, 7)
    yield one, other
    os.close(one)
    os.close(other)


def raw(fd: int) -> list[bytes]:
    """Everything that waits as read(2) gives it, cookies aside."""
    found = []
    data = os.read(fd, 1 << 22) if bytes_of_events(fd) else b""
    while data:
        size = kernel.HEADER_SIZE + int.from_bytes(data[12:16], "little")
        found.append(data[:8] + data[12:size])
        data = data[size:]
    return found


def everything() -> None:
    os.mkdir("d/sub")
    os.rmdir("d/sub")
    Path("d/a").write_text("x")
    Path("d/a").read_text()
    os.chmod("d/a", 0o600)
    os.rename("d/a", "d/b")
    os.rename("d/b", "gone")
    os.rename("gone", "d/back")
    os.listdir("d")
    os.utime("d")
    os.unlink("d/back")
    os.rename("d", "e")
    os.rmdir("e")
    Path("f").write_text("y")
    Path("f").read_text()
    os.unlink("f")


def one_of_each_watch() -> None:
    os.utime("f")
    os.utime("d")


def overflow() -> None:
    for _ in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())):
        os.utime("f")
        os.utime("d")


@pytest.mark.parametrize("happen", [everything, one_of_each_watch, overflow])
def test_same_events(instances: tuple[int, int], happen: Callable[[], None]) -> None:
    one, other = instances
    happen()
    events = kernel.inotify_queue(one)
    assert problem(events) is None
    Replay(other, events, "inotify").run()
    again = kernel.inotify_queue(other)
    assert [event._replace(cookie=0) for event in again] == [event._replace(cookie=0) for event in events]
    assert raw(other) == raw(one)


def test_overflow_in_the_middle(instances: tuple[int, int]) -> None:
    one, other = instances
    overflow()
    os.read(one, 100 * kernel.HEADER_SIZE)
    for _ in range(40):
        one_of_each_watch()
    Replay(other, kernel.inotify_queue(one), "inotify").run()
    assert raw(other) == raw(one)


def test_watch_that_was_taken_away(instances: tuple[int, int]) -> None:
    one, other = instances
    one_of_each_watch()
    inotify_rm_watch(one, 7)
    Replay(other, kernel.inotify_queue(one), "inotify").run()
    assert raw(other) == raw(one)


def test_looking_changes_nothing(instances: tuple[int, int]) -> None:
    one, _ = instances
    everything()
    size = bytes_of_events(one)
    events = kernel.inotify_queue(one)
    assert sum(event.size for event in events) == size
    assert kernel.inotify_queue(one) == events
    assert bytes_of_events(one) == size


def test_watch_descriptors_are_free_again(instances: tuple[int, int]) -> None:
    _, other = instances
    Replay(other, [Event(5, IN_CREATE, 0, b"x")], "inotify").run()
    inotify_add_watch(other, "d", IN_ALL_EVENTS, 5)
    inotify_add_watch(other, "f", IN_ALL_EVENTS, 1)
    os.utime("f")
    assert [event[:2] for event in kernel.inotify_queue(other)] == [(5, IN_CREATE), (1, kernel.IN_ATTRIB)]


@pytest.mark.parametrize(
    ("events", "why"),
    [
        ([Event(0, IN_CREATE, 0, b"x")], "no possible one"),
        ([Event(1, IN_CREATE, 0, b"")], "no possible one"),
        ([Event(1, IN_CREATE, 0, b"../x")], "no possible one"),
        ([Event(1, IN_CREATE, 0, b"..")], "no possible one"),
        ([Event(1, IN_CREATE, 0, b"x" * 256)], "no possible one"),
        ([Event(1, IN_DELETE_SELF, 0, b"")], "without the end of its watch"),
        ([Event(1, IN_DELETE_SELF, 0, b""), Event(2, IN_IGNORED, 0, b"")], "without the end of its watch"),
        (
            [Event(1, IN_MOVED_FROM, 3, b"x"), Event(1, IN_CREATE, 0, b"y"), Event(1, IN_MOVED_TO, 3, b"z")],
            "a rename whose halves are apart",
        ),
        ([Event(1, kernel.IN_UNMOUNT, 0, b"")], "of a kind that can't be made again"),
        ([Event(1, kernel.IN_ATTRIB | kernel.IN_MODIFY, 0, b"")], "of a kind that can't be made again"),
        ([Event(1, IN_CREATE, 0, b"x"), Event(1, kernel.IN_ATTRIB, 0, b"")], "does not fit"),
        ([Event(1, kernel.IN_CLOSE_WRITE | IN_ISDIR, 0, b"x")], "does not fit"),
    ],
)
def test_what_can_not_happen_again(events: list[Event], why: str) -> None:
    assert why in (problem(events) or "")


def test_more_than_the_limit(instances: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "limit").write_text("10\n")
    monkeypatch.setattr(inotify_events, "_LIMIT", str(tmp_path / "limit"))
    with pytest.raises(CrError, match="inotify: 11 events waited, which is too many"):
        Replay(instances[1], [Event(1, IN_CREATE, 0, b"%d" % n) for n in range(11)], "inotify").run()
