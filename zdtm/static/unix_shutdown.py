"""Unix socket pairs shut down for reading, for writing and for both, with and without data still queued.

states: unix-sockets/shutdown-states
flavours: h
"""

import itertools
import select
import socket

from zdtm.lib.program import equal, ready, run

TYPES = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
WAYS = {"RD": socket.SHUT_RD, "WR": socket.SHUT_WR, "RDWR": socket.SHUT_RDWR}
Pair = tuple[socket.socket, socket.socket]


def shut_pair(kind: socket.SocketKind, way: str, queued: bool) -> Pair:
    """The left end is the one that is shut down, after both have sent a message if queued."""
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    if queued:
        left.send(b"last words from the left")
        right.send(b"last words from the right")
    left.shutdown(WAYS[way])
    return left, right


def attempt(end: socket.socket, what: str) -> str:
    try:
        if what == "send":
            return f"sent {end.send(b'more', socket.MSG_DONTWAIT)}"
        return f"received {end.recv(64, socket.MSG_DONTWAIT)!r}"
    except OSError as refusal:
        return type(refusal).__name__


def behaviour(pair: Pair) -> list[str]:
    """Everything that the two ends say to poll, to sending, and to reading until the queue is empty."""
    poller = select.poll()
    for end in pair:
        poller.register(end, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    by_fd = dict(poller.poll(0))
    seen = [f"poll {by_fd.get(end.fileno(), 0):#x}" for end in pair]
    for end, what in itertools.product(pair, ("receive", "receive", "send")):
        seen.append(f"{what}: {attempt(end, what)}")
    return seen


def main() -> None:
    cases = list(itertools.product(TYPES, WAYS, (False, True)))
    pairs = [shut_pair(*case) for case in cases]
    ready()
    # What the kernel does with each combination is taken from a pair that was shut down just now.
    for case, pair in zip(cases, pairs, strict=True):
        kind, way, queued = case
        equal(behaviour(pair), behaviour(shut_pair(*case)), f"{kind.name} shut {way}, queued data: {queued}")


if __name__ == "__main__":
    run(main)
