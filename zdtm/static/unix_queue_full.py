"""Unix sockets whose queue takes no more: a stream by its bytes, a datagram socket by its small messages.

states: unix-sockets/queues-in-both-directions
flavours: h
"""

import select
import socket

from zdtm.lib.program import check, equal, ready, run


def fill(end: socket.socket, size: int) -> list[bytes]:
    """Send numbered messages of that size until the kernel says EAGAIN."""
    end.setblocking(False)
    sent: list[bytes] = []
    while True:
        message = b"%d " % len(sent) * size
        try:
            taken = end.send(message[:size])
        except BlockingIOError:
            return sent
        sent.append(message[:taken])


def drain(end: socket.socket, size: int) -> list[bytes]:
    end.setblocking(False)
    items = []
    while True:
        try:
            items.append(end.recv(size))
        except BlockingIOError:
            return items


def is_writable(end: socket.socket) -> bool:
    return bool(select.select([], [end], [], 0)[1])


def main() -> None:
    stream = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    dgram = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    sent_bytes = b"".join(fill(stream[0], 5000))
    sent_messages = fill(dgram[0], 6)
    check(len(sent_messages) > 1, "the datagram queue holds no two messages")
    ready()
    equal(b"".join(drain(stream[1], 1 << 20)), sent_bytes, "bytes in the full stream")
    equal(drain(dgram[1], 1 << 20), sent_messages, "messages in the full datagram queue")
    for end in (stream[0], dgram[0]):
        check(is_writable(end), "a socket is not writable although its queue has been drained")
    equal(fill(dgram[0], 6), sent_messages, "messages that fit the datagram queue once more")


if __name__ == "__main__":
    run(main)
