"""A unix datagram pair of which one end is closed; what it sent is still in the queue.

states: unix-sockets/dgram-pair-with-closed-peer
flavours: h
"""

import socket

from zdtm.lib.program import equal, ready, run


def bereaved() -> socket.socket:
    """The surviving end, with two datagrams from the closed one."""
    survivor, closed = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    closed.send(b"first")
    closed.send(b"")
    closed.send(b"last")
    closed.close()
    return survivor


def errors_of_sending(end: socket.socket, times: int) -> list[str]:
    """The first attempt finds the peer gone and forgets it, so the later ones fail in another way."""
    seen = []
    for _ in range(times):
        try:
            seen.append(f"sent {end.send(b'are you there')}")
        except OSError as refusal:
            seen.append(type(refusal).__name__ + f" {refusal.errno}")
    return seen


def main() -> None:
    survivor = bereaved()
    ready()
    for message in (b"first", b"", b"last"):
        equal(survivor.recvfrom(64, socket.MSG_DONTWAIT), (message, None), "datagram of the closed end")
    try:
        equal(survivor.recv(64, socket.MSG_DONTWAIT), None, "a datagram that nobody sent")
    except BlockingIOError:
        pass
    equal(errors_of_sending(survivor, 3), errors_of_sending(bereaved(), 3), "answers to sending")


if __name__ == "__main__":
    run(main)
