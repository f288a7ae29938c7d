"""As much netlink as the probes need: one request, and the answers to it (netlink(7)).

pyroute2 can do all of this; importing it takes longer than the whole check.
"""

from __future__ import annotations

import os
import socket
import struct

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_NETFILTER = 0, 4, 12
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP, NLM_F_CREATE, NLM_F_EXCL = 1, 4, 0x300, 0x400, 0x200
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_HEADER = struct.Struct("IHHII")
_RECEIVE = 1 << 16
NESTED = 0x8000


def attribute(kind: int, content: bytes) -> bytes:
    """One struct nlattr, padded to four bytes."""
    length = 4 + len(content)
    return struct.pack("HH", length, kind) + content + bytes(-length % 4)


def message(kind: int, flags: int, body: bytes) -> bytes:
    return _HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body


def request(protocol: int, kind: int, flags: int, body: bytes) -> list[bytes]:
    """Send one request with NLM_F_REQUEST and return the bodies of its answers.

    flags: NLM_F_ACK for requests that are only done or refused, NLM_F_DUMP for lists. Raises the OSError the kernel
    answers with.
    """
    return exchange(protocol, message(kind, flags | NLM_F_REQUEST, body), bool(flags & (NLM_F_ACK | NLM_F_DUMP)))


def exchange(protocol: int, packet: bytes, until_done: bool) -> list[bytes]:
    """Send packet as it is. until_done: the answer ends with an acknowledgement or NLMSG_DONE."""
    bodies: list[bytes] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as sock:
        sock.bind((0, 0))
        sock.send(packet)
        while True:
            for kind, body in _split(sock.recv(_RECEIVE)):
                if kind == _NLMSG_ERROR:
                    code = -struct.unpack_from("i", body)[0]
                    if code:
                        raise OSError(code, os.strerror(code))
                    return bodies
                if kind == _NLMSG_DONE:
                    return bodies
                bodies.append(body)
            if not until_done:
                return bodies


def _split(packet: bytes) -> list[tuple[int, bytes]]:
    messages = []
    while len(packet) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(packet)
        messages.append((kind, packet[_HEADER.size : length]))
        packet = packet[(length + 3) & ~3 :]
    return messages
