"""Facts about a socket, asked of a copy of its descriptor, and of sock_diag for unix peers and queues."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from dataclasses import dataclass

from zdtm.harness.oracle.names import Names

NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
UDIAG_SHOW_PEER, UDIAG_SHOW_ICONS, UDIAG_SHOW_RQLEN = 4, 8, 16
UNIX_DIAG_PEER, UNIX_DIAG_ICONS, UNIX_DIAG_RQLEN, UNIX_DIAG_SHUTDOWN = 2, 3, 4, 6

SIOCINQ = 0x541B

# Options by number where the socket module has no name for them. SO_ERROR is not here: reading it clears it.
SOL_SOCKET_OPTIONS = {
    "acceptconn": socket.SO_ACCEPTCONN,
    "broadcast": socket.SO_BROADCAST,
    "dontroute": socket.SO_DONTROUTE,
    "keepalive": socket.SO_KEEPALIVE,
    "mark": socket.SO_MARK,
    "no_check": 11,
    "oobinline": socket.SO_OOBINLINE,
    "passcred": socket.SO_PASSCRED,
    "passsec": socket.SO_PASSSEC,
    "peek_off": 42,
    "priority": socket.SO_PRIORITY,
    "rcvbuf": socket.SO_RCVBUF,
    "rcvlowat": socket.SO_RCVLOWAT,
    "reuseaddr": socket.SO_REUSEADDR,
    "reuseport": socket.SO_REUSEPORT,
    "sndbuf": socket.SO_SNDBUF,
    "timestamp": 29,
    "timestampns": 35,
    "lock_filter": 44,
    "buf_lock": 72,
}
STRUCT_OPTIONS = {
    "linger": (socket.SO_LINGER, 8),
    "rcvtimeo": (socket.SO_RCVTIMEO, 16),
    "sndtimeo": (socket.SO_SNDTIMEO, 16),
    "bindtodevice": (socket.SO_BINDTODEVICE, 16),
    "peercred": (socket.SO_PEERCRED, 12),
}
IP_OPTIONS = {"freebind": 15, "mtu_discover": 10, "pktinfo": 8, "recverr": 11, "recvttl": 12, "tos": 1, "ttl": 2}
IPV6_OPTIONS = {"v6only": 26, "recvpktinfo": 49, "tclass": 67, "unicast_hops": 16}
TCP_OPTIONS = {
    "congestion_retries": 7,  # TCP_SYNCNT
    "cork": 3,
    "defer_accept": 9,
    "keepcnt": 6,
    "keepidle": 4,
    "keepintvl": 5,
    "linger2": 8,
    "nodelay": 1,
    "user_timeout": 18,
}
TCP_INFO, TCP_ESTABLISHED, TCP_LISTEN = 11, 1, 10


@dataclass(frozen=True)
class UnixState:
    """What sock_diag tells about a unix socket. Inode 0: none."""

    state: int
    peer: int = 0
    pending: int = 0
    """connections not accepted yet"""
    receive_queue: int = 0
    """bytes waiting; of a listener, connections"""
    backlog: int = 0
    """only of a listener"""
    shutdown: int = 0


def socket_facts(fd: int, inode: int, device: int, names: Names, unix: dict[int, UnixState]) -> dict[str, str]:
    """Facts about the socket behind fd, our copy. It stays open."""
    copy = socket.socket(fileno=os.dup(fd))
    with copy:
        facts = {"is": f"family {copy.family:d} type {copy.type:d} protocol {copy.proto}"}
        facts["own address"] = _address(copy, peer=False)
        facts["peer's address"] = _address(copy, peer=True)
        facts |= _options(copy)
        if copy.family == socket.AF_UNIX:
            state = unix.get(inode)
            facts["state"] = "not known to sock_diag" if state is None else _unix_text(state, device, names)
        elif copy.type in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            facts["bytes to read"] = str(_queued(copy))
        return facts


def _address(copy: socket.socket, *, peer: bool) -> str:
    try:
        return repr(copy.getpeername() if peer else copy.getsockname())
    except OSError as problem:
        return os.strerror(problem.errno or 0)


def _options(copy: socket.socket) -> dict[str, str]:
    facts = {}
    for name, number in SOL_SOCKET_OPTIONS.items():
        facts[name] = _number(copy, socket.SOL_SOCKET, number)
    for name, (number, size) in STRUCT_OPTIONS.items():
        facts[name] = _bytes(copy, socket.SOL_SOCKET, number, size)
    if copy.family in (socket.AF_INET, socket.AF_INET6):
        facts |= {name: _number(copy, socket.IPPROTO_IP, number) for name, number in IP_OPTIONS.items()}
    if copy.family == socket.AF_INET6:
        facts |= {name: _number(copy, socket.IPPROTO_IPV6, number) for name, number in IPV6_OPTIONS.items()}
    if copy.proto == socket.IPPROTO_TCP:
        facts |= {name: _number(copy, socket.IPPROTO_TCP, number) for name, number in TCP_OPTIONS.items()}
        state = copy.getsockopt(socket.IPPROTO_TCP, TCP_INFO, 1)[0]
        facts["tcp state"] = str(state)
        if state == TCP_ESTABLISHED:
            # The kernel tunes these while the connection lives.
            del facts["rcvbuf"], facts["sndbuf"]
    return {name: value for name, value in facts.items() if value}


def _number(copy: socket.socket, level: int, option: int) -> str:
    """Empty when the socket does not have the option."""
    try:
        return str(copy.getsockopt(level, option))
    except OSError:
        return ""


def _bytes(copy: socket.socket, level: int, option: int, size: int) -> str:
    try:
        return copy.getsockopt(level, option, size).hex()
    except OSError:
        return ""


def _queued(copy: socket.socket) -> int:
    try:
        count: int = struct.unpack("i", fcntl.ioctl(copy, SIOCINQ, bytes(4)))[0]
    except OSError:
        return 0  # a listening one
    return count


def _unix_text(state: UnixState, device: int, names: Names) -> str:
    peer = "none" if state.peer == 0 else names.of_inode(device, state.peer) or "not held by a descriptor"
    return (
        f"{state.state}, peer: {peer}, pending: {state.pending}, "
        f"to read: {state.receive_queue}, backlog: {state.backlog}, shutdown: {state.shutdown}"
    )


def unix_states() -> dict[int, UnixState]:
    """All unix sockets of this net namespace by inode. sock_diag(7)"""
    show = UDIAG_SHOW_PEER | UDIAG_SHOW_ICONS | UDIAG_SHOW_RQLEN
    request = struct.pack("=BBHIIIQ", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, show, 0)
    header = struct.pack("=IHHII", 16 + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, 0, 0)
    states: dict[int, UnixState] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as diag:
        diag.send(header + request)
        while True:
            data = diag.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind == NLMSG_DONE:
                    return states
                if kind == NLMSG_ERROR:
                    error = -struct.unpack_from("=i", data, 16)[0]
                    raise OSError(error, f"sock_diag: {os.strerror(error)}")
                inode, state = _unix_message(data[16:length])
                states[inode] = state
                data = data[_aligned(length) :]


def _unix_message(body: bytes) -> tuple[int, UnixState]:
    """struct unix_diag_msg and its attributes."""
    _, _, state, _, inode = struct.unpack_from("=BBBBI", body)
    found = {}
    position = 16
    while position + 4 <= len(body):
        size, attribute = struct.unpack_from("=HH", body, position)
        found[attribute] = body[position + 4 : position + size]
        position += _aligned(size)
    queues = struct.unpack("=II", found.get(UNIX_DIAG_RQLEN, bytes(8)))
    return inode, UnixState(
        state=state,
        peer=int.from_bytes(found.get(UNIX_DIAG_PEER, b""), "little"),
        pending=len(found.get(UNIX_DIAG_ICONS, b"")) // 4,
        receive_queue=queues[0],
        # Of others this is the memory their unread packets take, which depends on how the packets were cut.
        backlog=queues[1] if state == TCP_LISTEN else 0,
        shutdown=int.from_bytes(found.get(UNIX_DIAG_SHUTDOWN, b""), "little"),
    )


def _aligned(length: int) -> int:
    return (length + 3) & ~3
