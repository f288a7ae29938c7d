"""A connected unix stream whose two ends disagree: the connector was shut down before it connected.

Shutting down a connected end tells its peer; before the connection there was nobody to tell. So the accepted end
believes that it is fully open.

states: unix-sockets/asymmetric-shutdown
flavours: h
"""

import os
import select
import socket

from zdtm.lib.program import equal, ready, run

WAYS = {"RD": socket.SHUT_RD, "WR": socket.SHUT_WR}


def connect_shut(way: int, name: str) -> tuple[socket.socket, socket.socket]:
    """The connector, shut down in that way before connecting, and the accepted end."""
    listener, connector = (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2))
    listener.bind(name)
    listener.listen()
    connector.shutdown(way)
    connector.connect(name)
    accepted, _ = listener.accept()
    listener.close()
    os.unlink(name)
    return connector, accepted


def attempt_both(end: socket.socket) -> list[str]:
    seen = []
    for what in ("send", "recv"):
        try:
            result = end.send(b"data", socket.MSG_DONTWAIT) if what == "send" else end.recv(64, socket.MSG_DONTWAIT)
            seen.append(f"{what}: {result!r}")
        except OSError as refusal:
            seen.append(f"{what}: {type(refusal).__name__}")
    return seen


def poll(end: socket.socket) -> str:
    poller = select.poll()
    poller.register(end, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    return f"poll {dict(poller.poll(0)).get(end.fileno(), 0):#x}"


def behaviour(connector: socket.socket, accepted: socket.socket) -> list[str]:
    """How both ends react. The accepted end is shut for reading last: with the bit for writing, if a restore has
    set it, that would be a full shutdown, which poll reports as a hangup."""
    seen = [poll(connector), poll(accepted), *attempt_both(accepted), *attempt_both(connector)]
    accepted.shutdown(socket.SHUT_RD)
    return [*seen, poll(connector), poll(accepted)]


def main() -> None:
    pairs = {name: connect_shut(way, name) for name, way in WAYS.items()}
    ready()
    # A pair made just now, in the same way, says how the kernel treats this.
    for name, pair in pairs.items():
        equal(behaviour(*pair), behaviour(*connect_shut(WAYS[name], "now")), f"ends of the connection shut {name}")


if __name__ == "__main__":
    run(main)
