"""Unix socket pairs whose other end is closed: what it had sent can still be read, then comes the end.

states: unix-sockets/half-closed-pair-with-data
flavours: h
"""

import os
import select
import socket

from zdtm.lib.proc import open_fds
from zdtm.lib.program import check, equal, ready, run


def poll(end: socket.socket) -> int:
    poller = select.poll()
    poller.register(end, select.POLLIN | select.POLLRDHUP)
    return poller.poll(0)[0][1]


def main() -> None:
    survivors = []
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        closed, open_end = socket.socketpair(socket.AF_UNIX, kind)
        closed.send(b"x")
        closed.close()
        survivors.append(open_end)
    empty_handed, left_alone = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    empty_handed.close()
    before = open_fds()
    polled = [poll(end) for end in survivors]
    ready()
    equal(open_fds(), before, "open descriptors")
    equal([poll(end) for end in survivors], polled, "what poll says before the data is read")
    for end in survivors:
        equal(end.recv(64, socket.MSG_DONTWAIT), b"x", "the byte left by the closed end")
    for end in (*survivors, left_alone):
        equal(end.recv(64, socket.MSG_DONTWAIT), b"", "end of file after the data")
        equal(end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR), 0, "pending error")
        try:
            os.write(end.fileno(), b"y")
        except BrokenPipeError:
            continue
        check(False, "the closed end still takes data")


if __name__ == "__main__":
    run(main)
