"""Unix sockets dumped and made again in the test process: peers, names and their files, what is refused."""

from __future__ import annotations

import errno
import os
import socket
import stat
from typing import TYPE_CHECKING, NoReturn

import pytest

from engine.errors import CrError, Refused
from engine.kernel import unix_waiting
from engine.kernel.kernel_memory import kernel_memory
from engine.objects.unix_name import _bind_below, _route
from engine.objects.unix_settle import settle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.objects.conftest import Cycle

STREAM, DGRAM, SEQPACKET = socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET


def carry_over(cycle: Cycle, *socks: socket.socket) -> list[socket.socket]:
    """Dump sockets, close them, make them anew. There are no stubs here, so credentials are the test's own."""
    cycle.dump(*(sock.fileno() for sock in socks))
    for entry in cycle.dump_context.entries:
        entry.usk.ClearField("peer_creds")
        for waiting in entry.usk.waiting:
            waiting.ClearField("creds")
    for sock in socks:
        sock.close()
    return [socket.socket(fileno=os.dup(fd)) for fd in cycle.restore()[: len(socks)]]


@pytest.fixture(autouse=True, scope="module")
def look_into_the_kernel() -> None:
    """What that takes stays open ever after."""
    kernel_memory()


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current directory, from which all private directories must be gone after the test."""
    monkeypatch.chdir(place)
    yield place
    assert not [name for name in os.listdir(place) if name.startswith(".crucible")]


def unix(kind: socket.SocketKind, name: str | bytes = "") -> socket.socket:
    new = socket.socket(socket.AF_UNIX, kind)
    if name:
        new.bind(name)
    return new


def close(*socks: socket.socket) -> None:
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("kind", [STREAM, DGRAM, SEQPACKET])
def test_pair(cycle: Cycle, kind: socket.SocketKind) -> None:
    one, other = carry_over(cycle, *socket.socketpair(socket.AF_UNIX, kind))
    one.send(b"x")
    assert other.recv(64) == b"x"
    close(one, other)


@pytest.mark.parametrize("kind", [STREAM, DGRAM, SEQPACKET])
def test_queue_of_a_pair_whose_other_end_is_closed(cycle: Cycle, kind: socket.SocketKind) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    left.send(b"farewell")
    left.close()
    (new,) = carry_over(cycle, right)
    assert new.recv(64) == b"farewell"
    if kind == DGRAM:
        with pytest.raises(ConnectionRefusedError):
            new.send(b"x")
    else:
        assert new.recv(64) == b""
    new.close()


def test_listener_and_both_ends(cycle: Cycle, here: Path) -> None:
    listener, client = unix(STREAM, "name"), unix(STREAM)
    listener.listen(3)
    client.connect("name")
    accepted, _ = listener.accept()
    listener, accepted, client = carry_over(cycle, listener, accepted, client)
    assert (accepted.getsockname(), client.getpeername(), client.getsockname()) == ("name", "name", "")
    client.send(b"x")
    assert accepted.recv(64) == b"x"
    with unix(STREAM) as late:
        late.connect("name")
    close(listener, accepted, client)


def test_accepted_without_its_listener(cycle: Cycle, here: Path) -> None:
    listener, client = unix(SEQPACKET, "name"), unix(SEQPACKET, b"\0test unix socket client")
    listener.listen()
    client.connect("name")
    accepted, _ = listener.accept()
    listener.close()
    os.unlink("name")
    accepted, client = carry_over(cycle, accepted, client)
    assert (accepted.getsockname(), accepted.getpeername()) == ("name", b"\0test unix socket client")
    assert os.listdir(here) == []
    close(accepted, client)


def test_a_listeners_file_is_not_an_accepted_sockets(cycle: Cycle, here: Path) -> None:
    """The listener belongs to somebody else. The accepted end comes back without touching the file."""
    listener, client = unix(STREAM, "name"), unix(STREAM)
    listener.listen()
    client.connect("name")
    accepted, _ = listener.accept()
    inode = os.stat("name").st_ino
    cycle.dump(accepted.fileno(), client.fileno())
    for entry in cycle.dump_context.entries:
        entry.usk.ClearField("peer_creds")
        for waiting in entry.usk.waiting:
            waiting.ClearField("creds")
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


def test_waiting_connections_keep_their_order(cycle: Cycle) -> None:
    name = b"\0test unix socket listener"
    listener = unix(STREAM, name)
    listener.listen(3)
    clients = [unix(STREAM, b"\0test unix socket %d" % n) for n in range(3)]
    order = [clients[n] for n in (2, 0, 1)]
    for client in order:
        client.connect(name)
    names = [client.getsockname() for client in order]
    listener, *clients = carry_over(cycle, listener, *clients)
    accepted = [listener.accept() for _ in clients]
    assert [address for _, address in accepted] == names
    close(listener, *clients, *(sock for sock, _ in accepted))


def test_backlog_smaller_than_the_queue(cycle: Cycle) -> None:
    name = b"\0test unix socket listener"
    listener = unix(STREAM, name)
    listener.listen(3)
    clients = [unix(STREAM) for _ in range(3)]
    for client in clients:
        client.connect(name)
    listener.listen(0)
    listener, *clients = carry_over(cycle, listener, *clients)
    with unix(STREAM) as one_more:
        one_more.setblocking(False)
        with pytest.raises(BlockingIOError):
            one_more.connect(name)
    close(listener, *clients)


def test_waiting_connection_with_data_that_cannot_be_seen(cycle: Cycle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_waiting, "waiting_connections", _no_bpf)
    with unix(STREAM, b"\0test unix socket listener") as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        client.send(b"x")
        with pytest.raises(Refused, match="an in-flight connection, not accepted yet, has data in it.*not permitted"):
            cycle.dump(listener.fileno(), client.fileno())


def test_waiting_connection_of_a_closed_client_that_cannot_be_seen(
    cycle: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_waiting, "waiting_connections", _no_bpf)
    with unix(STREAM, b"\0test unix socket listener") as listener:
        listener.listen()
        with unix(STREAM) as client:
            client.connect(listener.getsockname())
        with pytest.raises(Refused, match="is closed at the client's end.*not permitted"):
            cycle.dump(listener.fileno())


def test_waiting_connection_without_data_needs_no_look_into_the_kernel(
    cycle: Cycle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unix_waiting, "waiting_connections", _no_bpf)
    listener, client = unix(STREAM, b"\0test unix socket listener"), unix(STREAM)
    listener.listen()
    client.connect(listener.getsockname())
    listener, client = carry_over(cycle, listener, client)
    accepted, _ = listener.accept()
    client.send(b"x")
    assert accepted.recv(9) == b"x"
    close(listener, client, accepted)


def _no_bpf(_fd: int) -> NoReturn:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def test_waiting_connection_with_an_urgent_byte(cycle: Cycle) -> None:
    with unix(STREAM, b"\0test unix socket listener") as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        client.send(b"x", socket.MSG_OOB)
        with pytest.raises(Refused, match="not accepted yet, has out-of-band data"):
            cycle.dump(listener.fileno(), client.fileno())


def test_waiting_connection_with_a_descriptor_that_nobody_has(cycle: Cycle) -> None:
    with unix(STREAM, b"\0test unix socket listener") as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        with open("/dev/null") as file:
            socket.send_fds(client, [b"x"], [file.fileno()])
        with pytest.raises(Refused, match="holds a descriptor that no task has open"):
            cycle.dump(listener.fileno(), client.fileno())


@pytest.mark.parametrize("clients", [[7], [0, 0, 4711]])
def test_waiting_connections_that_cannot_be(cycle: Cycle, clients: list[int]) -> None:
    with unix(STREAM, b"\0test unix socket listener") as listener:
        listener.listen()
        cycle.dump(listener.fileno())
        (entry,) = cycle.dump_context.entries
        for client in clients:
            entry.usk.waiting.add(client=client)
        with pytest.raises(Refused, match="has connections waiting that can't be"):
            cycle.check()


def test_waiting_connection_from_elsewhere(cycle: Cycle) -> None:
    with unix(STREAM, b"\0test unix socket listener") as listener, unix(STREAM) as client:
        listener.listen()
        client.connect(listener.getsockname())
        with pytest.raises(Refused, match="not accepted yet, is of socket .*, which is not in the tree"):
            cycle.dump(listener.fileno())


def test_peer_outside(cycle: Cycle) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, STREAM)
    with left, right:
        what = rf"is connected to unix socket {os.fstat(right.fileno()).st_ino}, which is not in the tree"
        with pytest.raises(Refused, match=what):
            cycle.dump(left.fileno())


def test_external_end_of_a_pair(cycle: Cycle) -> None:
    """Dumped as --external unix[INODE], given again as --inherit-fd socket:[INODE]."""
    left, right = socket.socketpair(socket.AF_UNIX, STREAM)
    inode = os.fstat(left.fileno()).st_ino
    cycle.opts.external = [f"unix[{inode}]"]
    cycle.dump(left.fileno())
    left.close()
    right.close()
    given, other = socket.socketpair(socket.AF_UNIX, STREAM)
    cycle.opts.inherit_fd = [(given.fileno(), f"socket:[{inode}]")]
    (fd,) = cycle.restore()
    os.write(fd, b"x")
    assert other.recv(64) == b"x"
    close(given, other)


def test_external_end_with_something_to_read(cycle: Cycle) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, STREAM)
    with left, right:
        right.send(b"x")
        cycle.opts.external = [f"unix[{os.fstat(left.fileno()).st_ino}]"]
        with pytest.raises(Refused, match="what waits in it could only be sent again by its peer"):
            cycle.dump(left.fileno())


def test_given_end_gets_options_and_flags(cycle: Cycle) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, STREAM)
    inode = os.fstat(left.fileno()).st_ino
    left.setblocking(False)
    left.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    left.shutdown(socket.SHUT_WR)
    cycle.opts.external = [f"unix[{inode}]"]
    cycle.dump(left.fileno())
    close(left, right)
    given, other = socket.socketpair(socket.AF_UNIX, STREAM)
    cycle.opts.inherit_fd = [(given.fileno(), f"socket:[{inode}]")]
    (fd,) = cycle.restore()
    assert not os.get_blocking(fd)
    assert given.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 1
    assert other.recv(1) == b""
    close(given, other)


def test_external_end_that_is_not_given(cycle: Cycle) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, STREAM)
    inode = os.fstat(left.fileno()).st_ino
    cycle.opts.external = [f"unix[{inode}]"]
    cycle.dump(left.fileno())
    close(left, right)
    cycle.opts.external = []
    with pytest.raises(Refused, match=rf"pass the socket by --inherit-fd fd\[N\]:socket:\[{inode}\]"):
        cycle.check()


def test_out_of_band_data(cycle: Cycle) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, STREAM)
    with left, right:
        left.send(b"x", socket.MSG_OOB)
        with pytest.raises(Refused, match="out-of-band data"):
            cycle.dump(left.fileno(), right.fileno())


def test_error_before_waiting_messages(cycle: Cycle) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, SEQPACKET)
    with right:
        left.send(b"last")
        right.send(b"unread")
        left.close()
        with pytest.raises(Refused, match="messages wait behind an error"):
            cycle.dump(right.fileno())
        with pytest.raises(ConnectionResetError):
            right.recv(64)


def test_datagrams_in_a_circle(cycle: Cycle) -> None:
    """A pair of which one end has connected to a third socket since."""
    left, right = socket.socketpair(socket.AF_UNIX, DGRAM)
    server = unix(DGRAM, b"\0test unix socket server")
    left.send(b"before")
    left.connect(server.getsockname())
    left, right, server = carry_over(cycle, left, right, server)
    left.send(b"after")
    assert server.recv(64) == b"after"
    assert right.recv(64) == b"before"
    with pytest.raises(PermissionError):
        right.send(b"x")
    close(left, right, server)


def test_damaged_state(cycle: Cycle) -> None:
    sock = unix(STREAM)
    (entry,) = cycle.dump(sock.fileno())
    sock.close()
    cycle.dump_context.entries[0].usk.state = 5
    with pytest.raises(Refused, match="state 5 is not possible"):
        cycle.check()
    assert entry.state == 7


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


def test_damaged_peer(cycle: Cycle) -> None:
    """One end of a pair says that it is its own peer, the other that its peer is a third socket."""
    left, right = socket.socketpair(socket.AF_UNIX, STREAM)
    third = unix(DGRAM)
    cycle.dump(left.fileno(), right.fileno(), third.fileno())
    close(left, right, third)
    one, other, last = (entry.usk for entry in cycle.dump_context.entries)
    one.peer, other.peer = one.ino, last.ino
    with pytest.raises(Refused) as refusal:
        cycle.check()
    assert len(refusal.value.reasons) == 2
    assert all("can't be connected to file" in reason for reason in refusal.value.reasons)


def test_damaged_inode_number(cycle: Cycle) -> None:
    left, right = unix(STREAM), unix(STREAM)
    cycle.dump(left.fileno(), right.fileno())
    close(left, right)
    one, other = (entry.usk for entry in cycle.dump_context.entries)
    other.ino = one.ino
    with pytest.raises(Refused, match="is the same socket"):
        cycle.check()


def test_long_chain_of_datagrams(cycle: Cycle) -> None:
    """Each is connected to the next one. Who connects to a socket does so before it is connected itself."""
    count = 150
    socks = [unix(DGRAM, b"\0test unix chain %d" % number) for number in range(count)]
    for number in range(count - 1):
        socks[number].connect(b"\0test unix chain %d" % (number + 1))
    socks = carry_over(cycle, *socks)
    for number, sock in enumerate(socks[:-1]):
        assert sock.getpeername() == b"\0test unix chain %d" % (number + 1)
    close(*socks)
