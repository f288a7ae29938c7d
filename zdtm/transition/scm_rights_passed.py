"""Two processes pass each other the read ends of pipes, each with a word in it, so that some are always in flight.

states: unix-sockets/scm-rights-in-flight
flavours: h
"""

import os
import socket

from zdtm.lib.program import child, equal, go_on, reap, run, running

AHEAD = 5
"""Descriptors that are on their way at a time."""


def send_pipe(sock: socket.socket, number: int) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"word %d" % number)
    os.close(writer)
    socket.send_fds(sock, [b"%d" % number], [reader])
    os.close(reader)


def receive_pipe(sock: socket.socket) -> int:
    """Gives the number that came with the pipe, -1 at the end."""
    words, fds, _, _ = socket.recv_fds(sock, 64, 2)
    if not words:
        return -1
    number = int(words)
    equal(len(fds), 1, f"descriptors with message {number}")
    equal(os.read(fds[0], 64), b"word %d" % number, f"contents of pipe {number}")
    equal(os.read(fds[0], 64), b"", f"end of pipe {number}")
    os.close(fds[0])
    return number


def main() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send_back() -> None:
        ours.close()
        while (number := receive_pipe(theirs)) >= 0:
            send_pipe(theirs, number + 1)

    pid = child(send_back)
    theirs.close()
    running()
    sent = received = 0
    while go_on() or received < sent:
        while go_on() and sent < received + AHEAD:
            send_pipe(ours, sent)
            sent += 1
        equal(receive_pipe(ours), received + 1, "number that comes back")
        received += 1
    ours.close()
    equal(reap(pid), 0, "status of the other process")


if __name__ == "__main__":
    run(main)
