"""Connected pairs of unix sockets of every type, nothing in their queues, one end reachable by two descriptors.

states: unix-sockets/stream-seqpacket-socketpair
flavours: h
"""

import os
import socket

from zdtm.lib.proc import same_description
from zdtm.lib.program import equal, ready, run

TYPES = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)


def nothing_to_read(end: socket.socket) -> bool:
    try:
        return not end.recv(1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return True


def main() -> None:
    pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in TYPES]
    copies = [left.dup() for left, _ in pairs]
    for left, right in pairs:
        left.setblocking(False)
        os.set_inheritable(right.fileno(), True)
    ready()
    for number, (kind, copy, (left, right)) in enumerate(zip(TYPES, copies, pairs, strict=True)):
        name = f"end of the {kind.name} pair"
        equal(left.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE), kind, f"type of one {name}")
        equal((left.getsockname(), left.getpeername()), ("", ""), f"names of one {name}")
        equal((os.get_blocking(left.fileno()), os.get_blocking(right.fileno())), (False, True), f"blocking of {name}")
        equal(os.get_inheritable(left.fileno()), False, f"inheritance of the left {name}")
        equal(os.get_inheritable(right.fileno()), True, f"inheritance of the right {name}")
        equal(same_description(left.fileno(), copy.fileno()), True, f"the copy is the left {name}")
        equal((nothing_to_read(left), nothing_to_read(right)), (True, True), f"empty queue at each {name}")
        # A number of its own for each pair tells when ends were connected crosswise.
        left.send(b"right %d" % number)
        right.send(b"left %d" % number)
        equal(right.recv(64), b"right %d" % number, f"what reaches the right {name}")
        equal(copy.recv(64), b"left %d" % number, f"what reaches the left {name}")


if __name__ == "__main__":
    run(main)
