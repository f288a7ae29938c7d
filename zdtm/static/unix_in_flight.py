"""Unix connections that wait to be accepted, in their order, the clients still there and without data sent.

states: unix-sockets/in-flight-connection
flavours: h
"""

import socket

from zdtm.lib.program import check, equal, ready, run

CLIENTS = ("first", "", "third")
"""Names that the clients are bound to: accept() gives them, so they tell which connection it took."""


def connected(kind: socket.SocketKind, server: str, name: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, kind)
    if name:
        client.bind(f"{server} {name}")
    client.connect(server)
    return client


def main() -> None:
    listeners = {}
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        listeners[kind] = socket.socket(socket.AF_UNIX, kind)
        listeners[kind].bind(kind.name)
        listeners[kind].listen(8)
    clients = {kind: [connected(kind, kind.name, name) for name in CLIENTS] for kind in listeners}
    ready()
    for kind, listener in listeners.items():
        listener.setblocking(False)
        for name, client in zip(CLIENTS, clients[kind], strict=True):
            accepted, address = listener.accept()
            accepted.setblocking(True)
            equal(address, f"{kind.name} {name}" if name else "", f"address of the {kind.name} connection")
            equal(client.getpeername(), kind.name, "name of the clients' peer")
            client.send(b"hello from " + name.encode())
            equal(accepted.recv(64), b"hello from " + name.encode(), f"data of the {kind.name} client {name}")
            accepted.send(b"hello back")
            equal(client.recv(64), b"hello back", f"data for the {kind.name} client {name}")
        try:
            listener.accept()
            check(False, f"a {kind.name} connection that nobody made")
        except BlockingIOError:
            pass


if __name__ == "__main__":
    run(main)
