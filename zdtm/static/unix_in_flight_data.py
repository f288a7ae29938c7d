"""Unix connections that nobody has accepted yet carry data: little, nothing, more than a page, messages with borders,
descriptors (the listener itself among them); and one client has nothing more to say.

states: unix-sockets/in-flight-connection-with-data-or-dead-client
flavours: h
kernel: how connections are kept in the kernel's memory
needs: file /sys/kernel/btf/vmlinux
"""

import os
import socket

from zdtm.lib.proc import same_description
from zdtm.lib.program import check, equal, ready, run

SENT = {
    socket.SOCK_STREAM: [[b"sent too early"], [], [bytes(range(256)) * 200], [b"one, ", b"two"]],
    socket.SOCK_SEQPACKET: [[b"one", b"two", bytes(20000)], [], [b"three"]],
}
"""What each client of a listener sends, in the order in which they connect."""


def listener(kind: socket.SocketKind) -> socket.socket:
    new = socket.socket(socket.AF_UNIX, kind)
    new.bind(kind.name)
    new.listen(9)
    return new


def client(kind: socket.SocketKind) -> socket.socket:
    new = socket.socket(socket.AF_UNIX, kind)
    new.connect(kind.name)
    return new


def receive(sock: socket.socket, messages: list[bytes]) -> None:
    """Of a stream the borders of messages are nothing."""
    for message in messages if sock.type == socket.SOCK_SEQPACKET else [b"".join(messages)]:
        got = sock.recv(len(message) + 1, socket.MSG_DONTWAIT) if message else b""
        equal(got, message, f"data in the {sock.type.name} connection")
    try:
        sock.recv(1, socket.MSG_DONTWAIT)
        check(False, "more than was sent")
    except BlockingIOError:
        pass


def main() -> None:
    listeners = {kind: listener(kind) for kind in SENT}
    clients = {kind: [client(kind) for _ in queues] for kind, queues in SENT.items()}
    for kind, queues in SENT.items():
        for sender, messages in zip(clients[kind], queues, strict=True):
            for message in messages:
                sender.send(message)
    stream = listeners[socket.SOCK_STREAM]
    courier, finished = client(stream.type), client(stream.type)
    reader, writer = os.pipe()
    socket.send_fds(courier, [b"take these"], [reader, stream.fileno()])
    finished.send(b"the end")
    finished.shutdown(socket.SHUT_WR)
    ready()
    for kind, queues in SENT.items():
        for sender, messages in zip(clients[kind], queues, strict=True):
            accepted, _ = listeners[kind].accept()
            receive(accepted, messages)
            accepted.send(b"never too late")
            equal(sender.recv(64), b"never too late", "answer")
    accepted, _ = stream.accept()
    words, fds, _, _ = socket.recv_fds(accepted, 64, 4)
    equal((words, len(fds)), (b"take these", 2), "words and number of descriptors")
    check(same_description(fds[0], reader), "the first descriptor is not the pipe")
    check(same_description(fds[1], stream.fileno()), "the second descriptor is not the listener")
    os.write(writer, b"x")
    equal(os.read(fds[0], 1), b"x", "what has come through the pipe")
    accepted, _ = stream.accept()
    equal(accepted.recv(64), b"the end", "what the client that has finished has sent")
    equal(accepted.recv(64), b"", "what comes behind the end")
    accepted.send(b"still listening?")
    equal(finished.recv(64), b"still listening?", "answer to the client that has finished")


if __name__ == "__main__":
    run(main)
