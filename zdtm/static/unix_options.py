"""Socket options of unix sockets, different at each end: buffer sizes, timeouts, credential passing and others.

states: inet-sockets/sol-socket-options
flavours: h
kernel: options of unix sockets
needs: root
"""

import fcntl
import os
import socket
import struct

from zdtm.lib.program import equal, ready, run

SO_PASSSEC = 34
SO_BUF_LOCK = 72
TIMEVAL = "ll"
# option -> value for the left end and for the right one. A pair of numbers is a struct timeval.
OPTIONS: dict[int, tuple[int | tuple[int, int], int | tuple[int, int]]] = {
    socket.SO_SNDBUF: (30000, 300000),
    socket.SO_RCVBUF: (40000, 100000),
    socket.SO_SNDTIMEO: ((3, 500000), (0, 0)),
    socket.SO_RCVTIMEO: ((0, 20000), (7200, 0)),
    socket.SO_PASSCRED: (1, 0),
    SO_PASSSEC: (0, 1),
    socket.SO_PRIORITY: (3, 6),
    socket.SO_MARK: (0x1234, 0),
    socket.SO_RCVLOWAT: (1, 5),
    socket.SO_REUSEADDR: (0, 1),
    socket.SO_KEEPALIVE: (1, 0),
}
READ_ONLY = (socket.SO_TYPE, socket.SO_ACCEPTCONN, socket.SO_ERROR, SO_BUF_LOCK)


def values(sock: socket.socket) -> dict[int, bytes]:
    """What the kernel says, which is twice of what was asked for in case of a buffer."""
    return {option: sock.getsockopt(socket.SOL_SOCKET, option, 16) for option in (*OPTIONS, *READ_ONLY)}


def main() -> None:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    for option, both in OPTIONS.items():
        for end, value in zip(ends, both, strict=True):
            packed = struct.pack(TIMEVAL, *value) if isinstance(value, tuple) else struct.pack("i", value)
            end.setsockopt(socket.SOL_SOCKET, option, packed)
    fcntl.fcntl(ends[0], fcntl.F_SETOWN, os.getpid())
    before = [values(end) for end in ends]
    ready()
    for name, end, expected in zip(("left", "right"), ends, before, strict=True):
        got = values(end)
        for option in expected:
            equal(got[option], expected[option], f"option {option} of the {name} end")
    equal([fcntl.fcntl(end, fcntl.F_GETOWN) for end in ends], [os.getpid(), 0], "owners of the two ends")


if __name__ == "__main__":
    run(main)
