"""A client of `swrk` and `service`: what libcriu and go-criu do, for tests and benchmarks.

    with started([*engine, "swrk"]) as client:
        answer = client.ask("DUMP", {"pid": 17, "images_dir": "/tmp/images", "log_level": 4})
        assert answer.success, answer.cr_errmsg
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from engine.images.schema import enum, message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

Message = Any

SECONDS = 120
_LARGEST = 1 << 16


def connect(sock: socket.socket, path: str) -> None:
    """By a descriptor of the directory, since a test's may have a longer path than a socket's name can be."""
    directory = os.open(os.path.dirname(path) or ".", os.O_PATH)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


class Client:
    """One connection.

    on_notify   is called with the name of each step, its pid and a descriptor (-1: none), which it closes; returns
                whether to go on
    steps       what has been notified so far, (name, pid)
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(SECONDS)
        self.on_notify: Callable[[str, int, int], bool] = _agree
        self.steps: list[tuple[str, int]] = []
        self.externals: list[str] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    @classmethod
    def connected(cls, path: str) -> Client:
        """To a service."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connect(sock, path)
        return cls(sock)

    def ask(self, kind: str, options: Mapping[str, Any] | None = None, **fields: Any) -> Message:
        """Send a request and return its answer, with the steps in between answered.

        options: fields of criu_opts; fields: of criu_req. EOFError: the connection ended without an answer
        """
        with suppress(BrokenPipeError):  # it may have answered all the same, before it went
            self.send(request(kind, options, **fields))
        while True:
            answer, fd = self.receive()
            if answer.type != enum("criu_req_type")["NOTIFY"]:
                return answer
            self.steps.append((answer.notify.script, answer.notify.pid))
            agreed = self.on_notify(answer.notify.script, answer.notify.pid, fd)
            reply = request("NOTIFY", notify_success=agreed)
            if answer.notify.script == "query-ext-files" and self.externals:
                reply.opts.images_dir_fd = -1
                reply.opts.external.extend(self.externals)
            with suppress(BrokenPipeError):  # the last answer waits
                self.send(reply)

    def send(self, packet: Message) -> None:
        self.sock.send(packet.SerializeToString())

    def receive(self) -> tuple[Message, int]:
        """An answer and the descriptor that came with it, -1 for none."""
        data, rights, _, _ = self.sock.recvmsg(_LARGEST, socket.CMSG_SPACE(4))
        if not data:
            raise EOFError("the engine has ended the connection")
        fd = struct.unpack("=i", rights[0][2])[0] if rights else -1
        return message("criu_resp").FromString(data), fd


def request(kind: str, options: Mapping[str, Any] | None = None, **fields: Any) -> Message:
    """A criu_req. A value that is a mapping stands for a message, a list for repeated ones."""
    found = message("criu_req")(type=enum("criu_req_type")[kind])
    if options is not None:
        found.opts.images_dir_fd = -1
        _fill(found.opts, options)
    _fill(found, fields)
    return found


def _fill(target: Message, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        field = getattr(target, name)
        if isinstance(value, dict):
            field.SetInParent()
            _fill(field, value)
        elif isinstance(value, (list, tuple)):
            for item in value:
                if isinstance(item, dict):
                    _fill(field.add(), item)
                else:
                    field.append(item)
        else:
            setattr(target, name, value)


def _agree(_script: str, _pid: int, fd: int) -> bool:
    if fd >= 0:
        os.close(fd)
    return True


class Swrk(Client):
    """The connection to a process that serves nobody else."""

    process: subprocess.Popen[bytes]


@contextmanager
def started(command: list[str], **popen: Any) -> Iterator[Swrk]:
    """Start `ENGINE swrk` for one connection, as runc does. command: up to the word swrk.

    At the end the connection is closed and the process waited for.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    process = spawn(command, its, **popen)
    client = Swrk(ours)
    client.process = process
    with process, client:
        yield client


def spawn(command: list[str], connection: socket.socket, **popen: Any) -> subprocess.Popen[bytes]:
    """The process alone, which gets the connection."""
    with connection:
        fd = connection.fileno()
        return subprocess.Popen([*command, str(fd)], pass_fds=[fd], **popen)
