"""Ten processes are connected to one unix datagram socket without a name in the file system, which has the highest
descriptor of its task.

states: unix-sockets/ghost-dgram-server-many-clients
flavours: h
needs: root
"""

import os
import socket

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run

CLIENTS = 10
SERVER_FD = 500


def main() -> None:
    gate = Gate()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    bound.bind("server")
    os.dup2(bound.fileno(), SERVER_FD)
    bound.close()
    server = socket.socket(fileno=SERVER_FD)

    def client() -> None:
        """Has nothing but the connection: the server's own descriptor exists in the parent only."""
        server.close()
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.connect("server")
        gate.wait()
        sock.send(b"%d" % os.getpid())

    pids = [child(client) for _ in range(CLIENTS)]
    gate.expect(CLIENTS)
    os.unlink("server")
    ready()
    equal(os.path.exists("server"), False, "the name has come back")
    gate.open()
    equal(sorted(int(server.recv(64)) for _ in pids), sorted(pids), "those who have sent a datagram")
    equal([reap(pid) for pid in pids], [0] * CLIENTS, "statuses of the clients")


if __name__ == "__main__":
    run(main)
