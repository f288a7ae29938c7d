"""Parent and child hold a unix connection whose listener is closed and its name unlinked.

states: unix-sockets/deleted-listener-name-accepted-connection
flavours: h
"""

import os
import socket

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run

AMOUNT = 1000


def main() -> None:
    gate = Gate()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("listener")
    listener.listen(1)

    def connector() -> None:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect("listener")
        listener.close()
        gate.wait()
        client.sendall(b"c" * AMOUNT)
        equal(client.recv(2 * AMOUNT, socket.MSG_WAITALL), b"p" * AMOUNT, "bytes from the parent")

    pid = child(connector)
    accepted, _ = listener.accept()
    gate.expect(1)
    listener.close()
    os.unlink("listener")
    ready()
    equal(os.listdir("."), [], "names in the directory")
    equal(accepted.getsockname(), "listener", "name of the accepted end")
    gate.open()
    equal(accepted.recv(AMOUNT, socket.MSG_WAITALL), b"c" * AMOUNT, "bytes from the child")
    accepted.sendall(b"p" * AMOUNT)
    accepted.shutdown(socket.SHUT_WR)
    equal(accepted.recv(1), b"", "end of the child's bytes")
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
