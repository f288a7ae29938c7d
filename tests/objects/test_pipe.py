"""Pipes and fifos: contents, sizes, packets, separate descriptions of one end, and ends that nobody has."""

from __future__ import annotations

import fcntl
import os
import select
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError, Refused
from engine.objects.pipe_data import queued
from tests.objects.facts import events_of, flags_of, link_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.objects.conftest import Cycle


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: read end, write end."""
    ends = os.pipe2(os.O_NONBLOCK)
    yield ends
    for fd in ends:
        os.close(fd)


def test_contents_stay_and_come_again(cycle: Cycle, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"first")
    os.write(pipe[1], b"second")
    cycle.dump(*pipe)
    new = cycle.restore()
    for ends in (pipe, new):
        assert queued(ends[0]) == 11
        assert os.read(ends[0], 100) == b"firstsecond"
    os.write(new[1], b"x")
    assert os.read(new[0], 10) == b"x"
    assert [flags_of(fd) for fd in new] == [flags_of(fd) for fd in pipe]


@pytest.mark.parametrize("size", [4096, 65536, 1 << 20])
def test_full(cycle: Cycle, pipe: tuple[int, int], size: int) -> None:
    """Every slot of the ring taken, and the first of them begun to be read."""
    fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, size)
    content = os.urandom(size)
    assert os.write(pipe[1], content) == size
    os.read(pipe[0], 1)
    cycle.dump(*pipe)
    new = cycle.restore()
    assert fcntl.fcntl(new[0], fcntl.F_GETPIPE_SZ) == size
    assert os.read(new[0], size) == content[1:]


def test_packets(cycle: Cycle) -> None:
    ends = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    packets = [b"a", b"bc" * 100, b"d" * 4096, b"e"]
    for packet in packets:
        os.write(ends[1], packet)
    cycle.dump(*ends)
    new = cycle.restore()
    assert [os.read(new[0], 65536) for _ in packets] == packets
    os.write(new[1], b"x")
    os.write(new[1], b"y")
    assert os.read(new[0], 10) == b"x", "the write end makes no packets any more"
    assert [flags_of(fd) for fd in new] == [flags_of(fd) for fd in ends]
    for fd in ends:
        os.close(fd)


def test_ends_opened_again_are_descriptions_of_their_own(cycle: Cycle, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"x")
    again = [os.open(f"/proc/self/fd/{pipe[0]}", flags) for flags in (os.O_RDONLY, os.O_RDWR, os.O_WRONLY)]
    fcntl.fcntl(again[2], fcntl.F_SETFL, os.O_NONBLOCK | os.O_APPEND | fcntl.FASYNC)
    cycle.dump(again[0], *pipe, *again[1:])
    new = cycle.restore()
    assert [flags_of(fd) for fd in new] == [flags_of(fd) for fd in (again[0], *pipe, *again[1:])]
    assert len({os.fstat(fd).st_ino for fd in new}) == 1
    fcntl.fcntl(new[1], fcntl.F_SETFL, 0)
    assert flags_of(new[3]) == flags_of(again[1])
    assert os.read(new[0], 10) == b"x"
    for fd in again:
        os.close(fd)


@pytest.mark.parametrize("closed", [0, 1])
def test_end_that_is_closed_stays_closed(cycle: Cycle, closed: int) -> None:
    pipe = os.pipe2(os.O_NONBLOCK)
    os.write(pipe[1], b"left")
    os.close(pipe[closed])
    kept = pipe[1 - closed]
    (message,) = cycle.dump(kept)
    with cycle.images.reader("PIPES_DATA") as reader:
        assert not next(reader).external
    assert message.pipe_id == os.fstat(kept).st_ino
    (new,) = cycle.restore()
    assert events_of(new) == events_of(kept)
    if closed == 1:
        assert [os.read(new, 10), os.read(new, 10)] == [b"left", b""]
    else:
        with pytest.raises(BrokenPipeError):
            os.write(new, b"x")
        reader_again = os.open(f"/proc/self/fd/{new}", os.O_RDONLY | os.O_NONBLOCK)
        assert os.read(reader_again, 10) == b"left", "what nobody can read any more is still there"
        os.close(reader_again)
    os.close(kept)


def test_end_held_by_somebody_else(cycle: Cycle, capfd: pytest.CaptureFixture[str]) -> None:
    pipe = os.pipe()
    code = "import sys; print(); sys.stdout.flush(); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=pipe[0], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        os.close(pipe[0])
        (message,) = cycle.dump(pipe[1])
        key = f"pipe:[{message.pipe_id}]"
        assert f"process {holder.pid} (python" in capfd.readouterr().err
        with pytest.raises(Refused, match=r"its other end was not in the tree .*pass an end by --inherit-fd"):
            cycle.check()
        reader, writer = os.pipe()
        cycle.opts.inherit_fd = [(writer, key)]
        (new,) = cycle.restore()
        os.write(new, b"to the new reader")
        assert os.read(reader, 100) == b"to the new reader"
        os.close(reader)
        os.close(writer)
        os.close(pipe[1])


def test_what_waits_goes_into_the_pipe_that_is_passed(cycle: Cycle) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"queued")
    (message,) = cycle.dump(reader)
    given_reader, given_writer = os.pipe()
    cycle.opts.inherit_fd = [(given_reader, f"pipe:[{message.pipe_id}]")]
    (new,) = cycle.restore()
    os.write(given_writer, b" and new")
    assert os.read(new, 100) == b"queued and new"
    for fd in (reader, writer, given_reader, given_writer):
        os.close(fd)


def test_the_old_pipe_still_has_what_waits(cycle: Cycle) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"queued")
    (message,) = cycle.dump(reader)
    cycle.opts.inherit_fd = [(writer, f"pipe:[{message.pipe_id}]")]
    (new,) = cycle.restore()
    assert os.read(new, 100) == b"queued"
    for fd in (reader, writer):
        os.close(fd)


def test_passed_pipe_has_something_in_it(cycle: Cycle) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"queued")
    (message,) = cycle.dump(reader)
    given_reader, given_writer = os.pipe()
    os.write(given_writer, b"before")
    cycle.opts.inherit_fd = [(given_reader, f"pipe:[{message.pipe_id}]")]
    with pytest.raises(CrError, match="holds 6 bytes, which would come before the 6 old ones"):
        cycle.restore()
    for fd in (reader, writer, given_reader, given_writer):
        os.close(fd)


def test_something_else_in_place_of_a_pipe(cycle: Cycle) -> None:
    reader, writer = os.pipe()
    first, second = cycle.dump(writer, reader)
    assert first.pipe_id == second.pipe_id
    null = os.open(os.devnull, os.O_RDWR)
    cycle.opts.inherit_fd = [(null, f"pipe:[{first.pipe_id}]")]
    for new in cycle.restore():
        assert os.fstat(new).st_rdev == os.fstat(null).st_rdev
    for fd in (reader, writer, null):
        os.close(fd)


def test_size_beyond_the_limit(cycle: Cycle, pipe: tuple[int, int]) -> None:
    cycle.dump(*pipe)
    with cycle.images.reader("PIPES_DATA") as reader:
        entry = next(reader)
    entry.size = 1 << 31
    cycle.images.write("PIPES_DATA", entry)
    with pytest.raises(Refused, match=r"its buffer of 2147483648 bytes can't be had: .*pipe-max-size"):
        cycle.check()


def test_more_data_than_room(cycle: Cycle, pipe: tuple[int, int]) -> None:
    cycle.dump(*pipe)
    with cycle.images.reader("PIPES_DATA") as reader:
        entry = next(reader)
    entry.bytes = 70000
    with cycle.images.writer("PIPES_DATA") as writer:
        writer.put(entry)
        writer.put_payload(bytes(70000))
    with pytest.raises(CrError, match="65536 of 70000 bytes fit in again"):
        cycle.restore()


def fifo_ends(path: Path) -> tuple[int, int]:
    os.mkfifo(path, 0o620)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    return reader, os.open(path, os.O_WRONLY)


def test_fifo(cycle: Cycle, place: Path) -> None:
    ends = fifo_ends(place / "fifo")
    fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 131072)
    content = os.urandom(131072)
    os.write(ends[1], content)
    cycle.dump(*ends)
    for fd in ends:
        os.close(fd)
    new = cycle.restore()
    assert fcntl.fcntl(new[0], fcntl.F_GETPIPE_SZ) == 131072
    assert os.read(new[0], 131072) == content
    assert link_of(new[1]) == str(place / "fifo")
    assert [flags_of(fd) & os.O_NONBLOCK for fd in new] == [os.O_NONBLOCK, 0]


def test_deleted_fifo_with_data_and_a_reader_only(cycle: Cycle, place: Path) -> None:
    reader, writer = fifo_ends(place / "fifo")
    os.write(writer, b"left")
    os.close(writer)
    (place / "fifo").unlink()
    cycle.dump(reader)
    (new,) = cycle.restore()
    assert stat.S_IMODE(os.fstat(new).st_mode) == stat.S_IMODE(os.fstat(reader).st_mode)
    assert events_of(new) == events_of(reader) == select.POLLIN | select.POLLHUP
    assert [os.read(new, 10), os.read(new, 10)] == [b"left", b""]
    assert os.listdir(place) == []
    os.close(reader)


def test_reader_that_never_saw_a_writer_sees_no_hang_up(cycle: Cycle, place: Path) -> None:
    os.mkfifo(place / "fifo")
    reader = os.open(place / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 8192)
    cycle.dump(reader)
    os.close(reader)
    (new,) = cycle.restore()
    assert events_of(new) == 0
    assert fcntl.fcntl(new, fcntl.F_GETPIPE_SZ) == 8192


def test_fifo_with_somebody_else_at_the_other_end(cycle: Cycle, place: Path) -> None:
    reader, writer = fifo_ends(place / "fifo")
    with pytest.raises(Refused, match="a process outside of the tree has the other end of this fifo open"):
        cycle.dump(reader)
    os.close(reader)
    os.close(writer)


def test_fifo_into_which_somebody_has_written(cycle: Cycle, place: Path) -> None:
    ends = fifo_ends(place / "fifo")
    os.write(ends[1], b"x")
    cycle.dump(*ends)
    with pytest.raises(CrError, match="another process has put data into this fifo"):
        cycle.restore()
    for fd in ends:
        os.close(fd)


def test_same_inode_number_on_two_file_systems(cycle: Cycle, place: Path) -> None:
    """Numbers of fifos are inode numbers, which two file systems may both use."""
    mounts = [place / "a", place / "b"]
    for mount in mounts:
        mount.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", mount], check=True)
    try:
        fds = [fd for mount in mounts for fd in fifo_ends(mount / "fifo")]
        assert os.fstat(fds[0]).st_ino == os.fstat(fds[2]).st_ino
        os.write(fds[1], b"a")
        os.write(fds[3], b"b")
        cycle.dump(*fds)
        for fd in fds:
            os.close(fd)
        new = cycle.restore()
        assert (os.read(new[0], 10), os.read(new[2], 10)) == (b"a", b"b")
    finally:
        cycle.close_descriptors()
        for mount in mounts:
            subprocess.run(["umount", mount], check=True)
