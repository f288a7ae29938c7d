"""A unix datagram socket is connected to a named socket of a process outside the tree.

The outsider is orphaned at birth, so that it belongs to init. It writes down what it hears, ends when it is told to,
and in any case after some minutes.

states: unix-sockets/external-peer
flavours: h
options: --ext-unix-sk
modes: not snapshot: the original, which goes on first, has told the outsider to end
"""

import os
import signal
import socket

from zdtm.lib.program import child, equal, ready, reap, run, wait_until

LIFE_SECONDS = 300
GOODBYE = b"goodbye\n"


def outsider() -> None:
    """Appends every datagram to the file "heard"."""
    if os.fork():
        return
    os.setsid()
    signal.alarm(LIFE_SECONDS)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("outside")
    with open("heard", "wb", buffering=0) as heard:
        words = b""
        while words != GOODBYE:
            words = server.recv(64)
            heard.write(words)
    os._exit(0)


def heard() -> bytes:
    with open("heard", "rb") as file:
        return file.read()


def main() -> None:
    equal(reap(child(outsider)), 0, "status of the outsider's parent")
    wait_until(lambda: os.path.exists("heard"), "the outsider is there")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    client.connect("outside")
    client.send(b"before\n")
    ready()
    try:
        equal(client.getpeername(), "outside", "name of the peer")
        client.send(b"after\n")
    finally:
        # By name, so that the outsider ends even if the connection is lost.
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(GOODBYE, "outside")
    wait_until(lambda: heard().endswith(GOODBYE), "the outsider has heard the last word")
    equal(heard(), b"before\nafter\n" + GOODBYE, "what the outsider has heard")


if __name__ == "__main__":
    run(main)
