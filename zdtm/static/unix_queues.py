"""Unread messages in both directions of unix socket pairs; those of datagrams and sequenced packets keep their
boundaries, also when they are empty, or larger than a page.

states: unix-sockets/queues-in-both-directions
flavours: h
kernel: SO_PEEK_OFF
"""

import socket

from zdtm.lib.program import check, equal, ready, run

SIZES = (1, 0, 4096, 70000, 3)
MORE_THAN_ANY = 1 << 20
"""Bytes. A read of this size would take two messages at once, were they merged."""


def messages(direction: int) -> list[bytes]:
    return [bytes((direction * 100 + index + n) % 251 for n in range(size)) for index, size in enumerate(SIZES)]


def drain(end: socket.socket) -> list[bytes]:
    """Everything queued, one item for each message (stream: for each read)."""
    items = []
    while True:
        try:
            items.append(end.recv(MORE_THAN_ANY, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return items


def main() -> None:
    stream = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    packets = {kind: socket.socketpair(socket.AF_UNIX, kind) for kind in (socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)}
    for pair in (stream, *packets.values()):
        for direction, end in enumerate(pair):
            for message in messages(direction):
                equal(end.send(message), len(message), "bytes that fit the queue")
    ready()
    for kind, pair in packets.items():
        equal(drain(pair[1]), messages(0), f"{kind.name} messages from left to right")
        equal(drain(pair[0]), messages(1), f"{kind.name} messages from right to left")
    equal(b"".join(drain(stream[1])), b"".join(messages(0)), "stream from left to right")
    equal(b"".join(drain(stream[0])), b"".join(messages(1)), "stream from right to left")
    for left, right in (stream, *packets.values()):
        check(left.send(b"on") == 2 and right.recv(64) == b"on", "a pair that was drained carries data no more")


if __name__ == "__main__":
    run(main)
