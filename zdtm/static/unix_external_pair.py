"""Ends of connected unix sockets whose other ends a process outside of the tree has.

states: unix-sockets/external-stream-pair-end
flavours: h
restore-options: --restore-sibling
outside: Ends
"""

import os
import socket

from zdtm.lib.outside import FIRST, Outside
from zdtm.lib.program import check, equal, ready, run

KINDS = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET)


class Ends(Outside):
    """Says nothing and hears what the program has to say."""

    def supply(self) -> list[int]:
        pairs = [socket.socketpair(socket.AF_UNIX, kind) for kind in KINDS]
        for ours, _ in pairs:
            self.keep(ours.detach())
        return [theirs.detach() for _, theirs in pairs]

    def external(self, fd: int) -> str:
        return f"unix[{os.fstat(fd).st_ino}]"

    def check(self) -> None:
        for fd, kind in zip(self.kept, KINDS, strict=True):
            os.set_blocking(fd, False)
            equal(os.read(fd, 64), b"hello", f"what has come over the {kind.name} socket")
            if kind != socket.SOCK_DGRAM:
                equal(os.read(fd, 64), b"", f"data of the {kind.name} socket after its end was shut down")


def main() -> None:
    ends = [socket.socket(fileno=number) for number in range(FIRST, FIRST + len(KINDS))]
    for end in ends:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    ready()
    for end, kind in zip(ends, KINDS, strict=True):
        check(not os.get_blocking(end.fileno()), f"the {kind.name} socket waits")
        equal(end.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED), 1, f"SO_PASSCRED of the {kind.name} socket")
        equal(end.send(b"hello"), 5, f"bytes sent over the {kind.name} socket")
        end.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    run(main)
