"""Unix connections that nobody has accepted yet, and whose clients are closed: one without a word, one after a word,
one that had a name; and living ones between them.

states: unix-sockets/in-flight-connection-with-data-or-dead-client
flavours: h
kernel: how connections are kept in the kernel's memory
needs: file /sys/kernel/btf/vmlinux
"""

import socket

from zdtm.lib.program import equal, ready, run

CLIENTS = [(b"", "", True), (b"alive", "", False), (b"farewell", "", True), (b"", "gone", True), (b"me too", "", False)]
"""(what it says, its name, whether it is closed) of each client in order."""


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("listener")
    listener.listen(len(CLIENTS))
    alive = []
    for words, name, closed in CLIENTS:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        if name:
            client.bind(name)
        client.connect("listener")
        client.send(words)
        if closed:
            client.close()
        else:
            alive.append(client)
    ready()
    for words, name, closed in CLIENTS:
        accepted, address = listener.accept()
        equal(address, name, "name of the client")
        if not closed:
            alive.pop(0).close()
        with accepted.makefile("rb") as stream:
            equal(stream.read(), words, "what the client has sent")


if __name__ == "__main__":
    run(main)
