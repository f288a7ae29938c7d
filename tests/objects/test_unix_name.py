"""Names of unix sockets: to the byte, and the files that go with them."""

from __future__ import annotations

import errno
import os
import socket
import stat
from functools import partial
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError, Refused
from engine.objects.unix_name import _bind_below, _route
from engine.objects.unix_settle import settle
from engine.restore_context import RestoreContext
from tests.objects.unix_sockets import DGRAM, STREAM, carry_over, close, dump, unix

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects.conftest import Cycle

pytestmark = pytest.mark.usefixtures("look_into_the_kernel")


def test_a_listeners_file_is_not_an_accepted_sockets(cycle: Cycle, here: Path) -> None:
    """The listener belongs to somebody else. The accepted end comes back without touching the file."""
    listener, client = unix(STREAM, "name"), unix(STREAM)
    listener.listen()
    client.connect("name")
    accepted, _ = listener.accept()
    inode = os.stat("name").st_ino
    dump(cycle, accepted, client)
    close(accepted, client, listener)
    cycle.restore()
    assert os.stat("name").st_ino == inode


def test_file_is_replaced_at_the_end(cycle: Cycle, here: Path) -> None:
    sock = unix(DGRAM, "name")
    os.chmod("name", 0o640)
    os.chown("name", 3, 4)
    before = os.stat("name")
    cycle.dump(sock.fileno())
    sock.close()
    ctx = cycle.check()
    for file_id in list(ctx.entries):
        ctx.open_file(file_id)
    settle(ctx)
    assert os.stat("name").st_ino == before.st_ino, "the file is still the old one"
    ctx.succeeded()
    ctx.clean_up()
    after = os.stat("name")
    assert after.st_ino != before.st_ino
    assert stat.S_ISSOCK(after.st_mode)
    assert (stat.S_IMODE(after.st_mode), after.st_uid, after.st_gid) == (0o640, 3, 4)


def test_failure_leaves_the_old_file(cycle: Cycle, here: Path) -> None:
    sock = unix(DGRAM, "name")
    before, times = os.stat("name"), os.stat(here)
    cycle.dump(sock.fileno())
    sock.close()
    ctx = cycle.check()
    for file_id in list(ctx.entries):
        ctx.open_file(file_id)
    ctx.clean_up()
    assert os.stat("name").st_ino == before.st_ino
    assert os.stat(here).st_mtime_ns == times.st_mtime_ns


def test_lost_file_comes_back(cycle: Cycle, here: Path) -> None:
    sock = unix(STREAM, "name")
    cycle.dump(sock.fileno())
    sock.close()
    os.unlink("name")
    cycle.restore()
    assert stat.S_ISSOCK(os.stat("name").st_mode)


@pytest.mark.parametrize("name", ["./name", "sub/../name", "sub/name", "../place/name", "sub//name"])
def test_address_to_the_byte(cycle: Cycle, here: Path, name: str) -> None:
    os.mkdir("sub")
    (sock,) = carry_over(cycle, unix(DGRAM, name))
    assert sock.getsockname() == name
    with unix(DGRAM) as client:
        client.connect(name)
    sock.close()


def test_absolute_address(cycle: Cycle, here: Path) -> None:
    name = str(here / "name")
    (sock,) = carry_over(cycle, unix(DGRAM, name))
    assert sock.getsockname() == name
    with unix(DGRAM) as client:
        client.connect("name")
    sock.close()


def test_longest_address(cycle: Cycle, here: Path) -> None:
    """108 bytes, without room for a NUL behind them."""
    name = "n" * 108
    sock = socket.socket(socket.AF_UNIX, DGRAM)
    from engine.kernel.sockets import bind

    bind(sock.fileno(), b"\1\0" + name.encode())
    (sock,) = carry_over(cycle, sock)
    assert sock.getsockname() == name
    assert os.listdir(here) == [name]
    sock.close()


def test_renamed_file(cycle: Cycle, here: Path) -> None:
    sock = unix(DGRAM, "old")
    os.rename("old", "new")
    (sock,) = carry_over(cycle, sock)
    assert os.listdir(here) == ["new"]
    assert sock.getsockname() == "old"
    with unix(DGRAM) as client:
        client.connect("new")
    sock.close()


def test_name_in_a_removed_directory(cycle: Cycle, here: Path) -> None:
    os.mkdir("gone")
    server, client = unix(DGRAM, "gone/name"), unix(DGRAM)
    client.connect("gone/name")
    os.unlink("gone/name")
    os.rmdir("gone")
    server, client = carry_over(cycle, server, client)
    client.send(b"x")
    assert server.recv(64) == b"x"
    assert (server.getsockname(), os.listdir(here)) == ("gone/name", [])
    close(server, client)


def test_name_that_belongs_to_another_file(cycle: Cycle, here: Path) -> None:
    sock = unix(DGRAM, "name")
    cycle.dump(sock.fileno())
    sock.close()
    os.unlink("name")
    os.mkdir("name")
    with pytest.raises(Refused, match=r"place/name: another file has that name \(move it away\)"):
        cycle.check()


def test_name_that_another_process_serves(cycle: Cycle, here: Path) -> None:
    sock = unix(DGRAM, "name")
    cycle.dump(sock.fileno())
    with pytest.raises(Refused, match="another process has a socket of that name"):
        cycle.check()
    sock.close()
    cycle.check()


def test_missing_directory(cycle: Cycle, here: Path) -> None:
    os.mkdir("sub")
    sock = unix(DGRAM, "sub/name")
    cycle.dump(sock.fileno())
    sock.close()
    os.unlink("sub/name")
    os.rmdir("sub")
    with pytest.raises(Refused, match="make the directory"):
        cycle.check()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("name", ([], [], "name")),
        ("/a/b/name", ([], ["a", "b"], "name")),
        ("../../a/name", (["d", "d"], ["..", "..", "a"], "name")),
        ("./a/.//name", ([], ["a"], "name")),
        ("/../name", ([], [".."], "name")),
    ],
)
def test_route(address: str, expected: tuple[list[str], list[str], str]) -> None:
    assert _route(address) == expected


def test_bind_below_stays_below(here: Path) -> None:
    root = os.open(here, os.O_PATH)
    with socket.socket(socket.AF_UNIX, DGRAM) as sock:
        assert _bind_below(root, sock.fileno(), b"../../../up\0") == "up"
        assert sock.getsockname() == "../../../up"
    assert stat.S_ISSOCK(os.stat("up").st_mode)
    assert os.getcwd() == str(here), "the thread has changed our directory"
    os.close(root)


def test_bind_below_says_why_not(here: Path) -> None:
    root = os.open(here, os.O_PATH)
    (here / "name").touch()
    with (
        socket.socket(socket.AF_UNIX, DGRAM) as sock,
        pytest.raises(CrError, match="unix socket name: it can't be bound: .*Address already in use"),
    ):
        _bind_below(root, sock.fileno(), b"name\0")
    os.close(root)


def test_what_cannot_be_tidied_up_keeps_nothing_else_there(cycle: Cycle) -> None:
    """The times of a directory on a file system that is read-only by now, and a private directory elsewhere."""
    ctx = RestoreContext(cycle.opts, cycle.images)
    done: list[str] = []

    def fail() -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    ctx.at_end(partial(done.append, "first"))
    ctx.at_end(fail)
    ctx.at_end(partial(done.append, "last"))
    with pytest.raises(OSError, match="Read-only file system"):
        ctx.clean_up()
    assert done == ["last", "first"]
