"""Unix sockets dumped and made again in the test process: peers, names and their files, what is refused."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.objects import table
from tests.objects.unix_sockets import DGRAM, SEQPACKET, STREAM, carry_over, close, dump, unix

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects.conftest import Cycle

pytestmark = pytest.mark.usefixtures("look_into_the_kernel")


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


def test_the_second_end_of_a_pair_comes_first(cycle: Cycle) -> None:
    """So that criu makes the pair for the first one, of which it can then make copies."""
    left, right = socket.socketpair()
    lonely = unix(DGRAM)
    dump(cycle, lonely, left, right)
    alone, first, second = cycle.dump_context.entries
    assert first.usk.peer == second.usk.ino
    for entries in ([alone, first, second], [second, first, alone]):
        assert [entry.id for entry in table._in_order(entries)] == [alone.id, second.id, first.id]
    close(lonely, left, right)


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
