"""Two unix datagram sockets whose queues hold each other and themselves.

states: unix-sockets/scm-rights-loops
flavours: h
needs: root
"""

import socket

from zdtm.lib.proc import same_description
from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    for receiver, sender in ((left, right), (right, left)):
        socket.send_fds(sender, [b"both of us"], [left.fileno(), right.fileno()])
        socket.send_fds(sender, [b"you"], [receiver.fileno()])
    ready()
    for receiver in (left, right):
        words, fds, _, _ = socket.recv_fds(receiver, 64, 4, socket.MSG_DONTWAIT)
        equal((words, len(fds)), (b"both of us", 2), "words and number of descriptors")
        check(same_description(fds[0], left.fileno()), "the first descriptor is not the left socket")
        check(same_description(fds[1], right.fileno()), "the second descriptor is not the right socket")
        words, fds, _, _ = socket.recv_fds(receiver, 64, 4, socket.MSG_DONTWAIT)
        equal((words, len(fds)), (b"you", 1), "words and number of descriptors")
        check(same_description(fds[0], receiver.fileno()), "the descriptor is not the socket it came through")
    left.send(b"free at last")
    equal(right.recv(64, socket.MSG_DONTWAIT), b"free at last", "data between the emptied sockets")


if __name__ == "__main__":
    run(main)
