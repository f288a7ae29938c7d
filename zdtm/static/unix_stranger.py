"""One end of a unix stream pair is held by a process outside the tree, which nobody has allowed.

states: unix-sockets/external-stream-pair-end
flavours: h
expect: refuse (?i)unix|socket
"""

import os
import socket

from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)

    def outsider() -> None:
        """Orphaned at birth, so that it belongs to init. It sends back what it gets until our end is closed."""
        if os.fork():
            return
        os.setsid()
        ours.close()
        while words := theirs.recv(64):
            theirs.send(words.upper())
        os._exit(0)

    equal(reap(child(outsider)), 0, "status of the outsider's parent")
    theirs.close()
    ready()
    ours.send(b"are you there")
    equal(ours.recv(64), b"ARE YOU THERE", "answer of the outsider")
    ours.shutdown(socket.SHUT_WR)
    equal(ours.recv(64), b"", "the end of the outsider")


if __name__ == "__main__":
    run(main)
