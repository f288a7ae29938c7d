"""A bound unix datagram socket holds what a process sent that has exited since.

states: unix-sockets/bound-dgram-with-data-from-dead-client
flavours: h
"""

import socket

from zdtm.lib.program import child, equal, ready, reap, run


def client() -> None:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.connect("server")
    sock.send(b"from beyond")
    sock.sendto(b"again", "server")


def main() -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("server")
    equal(reap(child(client)), 0, "status of the client")
    ready()
    equal(server.recvfrom(64, socket.MSG_DONTWAIT), (b"from beyond", None), "first datagram of the dead")
    equal(server.recvfrom(64, socket.MSG_DONTWAIT), (b"again", None), "second datagram of the dead")
    equal(reap(child(client)), 0, "status of another client")
    equal(server.recvfrom(64, socket.MSG_DONTWAIT), (b"from beyond", None), "datagram of another client")


if __name__ == "__main__":
    run(main)
