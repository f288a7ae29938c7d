"""An epoll instance waits twice in the queue of a unix socket that it watches itself.

states: unix-sockets/scm-rights-carrying-epoll
flavours: h
"""

import os
import select
import socket

from zdtm.lib.proc import same_description
from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    sender, carrier = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    epoll = select.epoll()
    epoll.register(carrier, select.EPOLLIN)
    for number in range(2):
        socket.send_fds(sender, [b"epoll %d" % number], [epoll.fileno()])
    epoll.close()
    ready()
    arrived = []
    for number in range(2):
        words, fds, _, _ = socket.recv_fds(carrier, 64, 4, socket.MSG_DONTWAIT)
        equal((words, len(fds)), (b"epoll %d" % number, 1), "words and number of descriptors")
        arrived += fds
    check(same_description(*arrived), "the two descriptors are two epoll instances")
    epoll = select.epoll.fromfd(arrived[0])
    os.close(arrived[1])
    equal(epoll.poll(0), [], "events of the socket whose queue is empty now")
    sender.send(b"wake up")
    equal(epoll.poll(1), [(carrier.fileno(), select.EPOLLIN)], "events of the socket with one datagram")


if __name__ == "__main__":
    run(main)
