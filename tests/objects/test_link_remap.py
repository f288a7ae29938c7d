"""Files opened by a name that is gone while they have others: the link for the restore, made and removed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.kernel.names import link_descriptor
from engine.objects import link_remap
from tests.objects.facts import link_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects.conftest import Cycle


def renamed(place: Path, lost: str = "lost", other: str = "other") -> int:
    """A descriptor opened by a name that is gone, of a file that has another."""
    (place / lost).write_text("text")
    fd = os.open(place / lost, os.O_RDWR)
    (place / other).hardlink_to(place / lost)
    (place / lost).unlink()
    return fd


def links(place: Path) -> list[str]:
    return [name for name in os.listdir(place) if link_remap.is_link_remap(name)]


def test_refused_without_the_option(cycle: Cycle, place: Path) -> None:
    fd = renamed(place)
    with pytest.raises(Refused, match=r"lost: this name is deleted, but the file has others \(--link-remap makes"):
        cycle.dump(fd)
    assert os.listdir(place) == ["other"]
    os.close(fd)


def test_same_inode_by_the_lost_name(cycle: Cycle, place: Path) -> None:
    cycle.opts.link_remap = True
    fds = [renamed(place), os.open(place / "other", os.O_RDONLY)]
    before = os.stat(place).st_mtime_ns
    cycle.dump(*fds)
    assert len(links(place)) == 1
    assert os.stat(place).st_mtime_ns == before
    new = cycle.restore()
    assert links(place) == []
    assert {os.fstat(fd).st_ino for fd in new} == {os.stat(place / "other").st_ino}
    assert os.fstat(new[0]).st_nlink == 1
    assert [link_of(fd) for fd in new] == [link_of(fd) for fd in fds]
    assert os.stat(place).st_mtime_ns == before
    for fd in fds:
        os.close(fd)


def test_failed_dump_takes_the_link_away(cycle: Cycle, place: Path) -> None:
    cycle.opts.link_remap = True
    fd = renamed(place)
    cycle.dump(fd)
    cycle.dump_context.undo()
    assert os.listdir(place) == ["other"]
    os.close(fd)


def test_links_of_other_dumps_are_left_alone(cycle: Cycle, place: Path) -> None:
    cycle.opts.link_remap = True
    for number in range(1, 6):
        (place / f"link_remap.{number}").write_text("of another dump")
    fd = renamed(place)
    cycle.dump(fd)
    assert "link_remap.6" in links(place)
    cycle.restore()
    assert sorted(links(place)) == [f"link_remap.{number}" for number in range(1, 6)]
    os.close(fd)


def test_directory_is_gone_too(cycle: Cycle, place: Path) -> None:
    cycle.opts.link_remap = True
    (place / "gone").mkdir()
    fd = renamed(place, "gone/lost")
    (place / "gone").rmdir()
    cycle.dump(fd)
    assert len(links(place)) == 1
    (new,) = cycle.restore()
    assert link_of(new) == link_of(fd)
    assert os.listdir(place) == ["other"]
    os.close(fd)


def test_link_that_has_been_removed(cycle: Cycle, place: Path) -> None:
    cycle.opts.link_remap = True
    fd = renamed(place)
    cycle.dump(fd)
    os.unlink(place / links(place)[0])
    with pytest.raises(Refused, match="the link of a deleted file: .*put it back"):
        cycle.check()
    os.close(fd)


@pytest.mark.parametrize("name", ["/etc/passwd", "/tmp/link_remap.x", "link_remap.3", "/tmp/../link_remap.3"])
def test_image_that_wants_another_file_removed(cycle: Cycle, place: Path, name: str) -> None:
    """A restore removes the link, so an image must not say that any file it likes is one."""
    cycle.opts.link_remap = True
    fd = renamed(place)
    cycle.dump(fd)
    link = next(entry for entry in cycle.dump_context.entries if link_remap.is_link_remap(entry.reg.name))
    os.unlink(link.reg.name)
    link.reg.name = name
    with pytest.raises(Refused, match="is no link of a dump|its name"):
        cycle.check()
    os.close(fd)


def test_name_that_leads_to_the_file_again(cycle: Cycle, place: Path) -> None:
    """The kernel still says "(deleted)", but there is nothing to remap."""
    fd = renamed(place)
    (place / "lost").hardlink_to(place / "other")
    assert link_of(fd).endswith(" (deleted)")
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert link_of(new) == str(place / "lost")
    os.close(fd)


def test_file_that_got_its_name_after_it_was_opened(cycle: Cycle, place: Path) -> None:
    """The kernel goes on to show the number by which it calls a file made by O_TMPFILE, and the flag."""
    cycle.opts.link_remap = True
    fd = os.open(place, os.O_TMPFILE | os.O_RDWR)
    os.write(fd, b"text")
    directory = os.open(place, os.O_PATH)
    link_descriptor(fd, directory, "named")
    os.close(directory)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert os.listdir(place) == ["named"]
    assert os.fstat(new).st_ino == os.stat(place / "named").st_ino
    assert os.pread(new, 10, 0) == b"text"
    os.close(fd)
