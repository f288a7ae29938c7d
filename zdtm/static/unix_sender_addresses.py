"""Queued unix datagrams keep the addresses of their senders, of those that are closed as well.

states: unix-sockets/sender-address-of-queued-datagrams
flavours: h
"""

import os
import socket

from zdtm.lib.program import equal, ready, run

PREFIX = f"\0zdtm {os.getpid()} "


def bound(name: str) -> socket.socket:
    new = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if name:
        new.bind(name)
    return new


def main() -> None:
    server = bound(PREFIX + "server")
    open_senders = {name: bound(name) for name in (PREFIX + "open", "path of an open one")}
    closed_senders = {name: bound(name) for name in (PREFIX + "closed", "path of a closed one")}
    nameless = bound("")
    expected: list[tuple[bytes, object]] = []
    # Each sender twice and interleaved: the address belongs to the datagram, not to the queue.
    for turn in range(2):
        for name, sender in [*open_senders.items(), ("", nameless), *closed_senders.items()]:
            message = f"turn {turn} from {name!r}".encode()
            sender.sendto(message, server.getsockname())
            expected.append((message, name.encode() if name.startswith("\0") else name or None))
    for sender in closed_senders.values():
        sender.close()
    os.unlink("path of a closed one")
    ready()
    received = [server.recvfrom(128, socket.MSG_DONTWAIT) for _ in expected]
    equal(received, expected, "datagrams and their senders")
    server.sendto(b"answer", PREFIX + "open")
    equal(open_senders[PREFIX + "open"].recv(64), b"answer", "answer to the sender that is still open")
    equal(os.path.exists("path of a closed one"), False, "the unlinked name of a closed sender exists")
    bound(PREFIX + "closed").close()


if __name__ == "__main__":
    run(main)
