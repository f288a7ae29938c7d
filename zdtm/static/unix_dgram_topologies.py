"""Unix datagram sockets that are not pairs: clients of a server, a sender without an address, a socket connected to
itself, and one connected to a socket that is connected elsewhere.

states: unix-sockets/dgram-topologies
flavours: h
"""

import socket

from zdtm.lib.program import check, equal, ready, run


def dgram(name: str = "", peer: str = "") -> socket.socket:
    new = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if name:
        new.bind(name)
    if peer:
        new.connect(peer)
    return new


def is_refused(sender: socket.socket, name: str) -> bool:
    """A socket that is connected accepts datagrams from its peer alone."""
    try:
        sender.sendto(b"intruder", name)
    except PermissionError:
        return True
    return False


def main() -> None:
    server = dgram("server")
    clients = {f"client {n}": dgram(f"client {n}", "server") for n in range(2)}
    nameless = dgram(peer="server")
    sender = dgram()
    myself = dgram("myself")
    myself.connect("myself")
    # Only before the adored one is connected itself can somebody else connect to it.
    adored = dgram("adored")
    lover = dgram("lover", "adored")
    adored.connect("server")
    ready()
    for name, client in clients.items():
        equal(client.getpeername(), "server", f"peer of {name}")
        client.send(b"hello from " + name.encode())
        equal(server.recvfrom(64), (b"hello from " + name.encode(), name), "datagram of a client")
        server.sendto(b"hello yourself", name)
        equal(client.recvfrom(64), (b"hello yourself", "server"), f"answer to {name}")
    nameless.send(b"who am I")
    equal(server.recvfrom(64), (b"who am I", None), "datagram of the nameless client")
    sender.sendto(b"passing by", "server")
    equal(server.recvfrom(64), (b"passing by", None), "datagram of the unconnected sender")
    myself.send(b"dear diary")
    equal(myself.recvfrom(64), (b"dear diary", "myself"), "datagram to myself")
    equal((lover.getpeername(), adored.getpeername()), ("adored", "server"), "peers of the lover and the adored")
    for name in ("myself", "client 0", "adored"):
        check(is_refused(sender, name), f"{name} takes a datagram from a stranger")
    check(is_refused(lover, "adored"), "the adored takes a datagram from a socket that it is not connected to")
    adored.send(b"my heart is yours")
    equal(server.recvfrom(64), (b"my heart is yours", "adored"), "datagram of the adored")


if __name__ == "__main__":
    run(main)
