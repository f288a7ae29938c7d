"""Channels: sockets over which tasks that run tapes get copies of the engine's descriptors."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from engine.tape.runner import Runner

_SCM_MAX_FD = 253


class Channel:
    """engine_end: our end of a pair of sockets; number: the descriptor of the other end in all tasks that have it. One
    of them reads at a time, when told."""

    def __init__(self, engine_end: socket.socket, number: int) -> None:
        self.engine_end = engine_end
        self.number = number

    def send(self, task: Runner, fds: list[int]) -> list[int]:
        """Give a task copies of our descriptors: its lowest free numbers, in order, which are returned."""
        numbers: list[int] = []
        for first in range(0, len(fds), _SCM_MAX_FD):
            batch = fds[first : first + _SCM_MAX_FD]
            tape = Tape()
            control_size = 16 + 4 * len(batch)
            header = tape.words(
                0, 0, tape.words(tape.buffer(1), 1), 1, control := tape.buffer(control_size), control_size, 0
            )
            tape.call("recvmsg", self.number, header, 0)
            try:
                socket.send_fds(self.engine_end, [b"!"], batch)
            except (BrokenPipeError, ConnectionResetError):
                raise task.failure("has died") from None
            task.run(tape)
            length, *_ = struct.unpack_from("<Q", control.content)
            if length != control_size:
                raise CrError(f"task {task.tid}: has no free descriptor to be given a file (raise RLIMIT_NOFILE)")
            numbers += struct.unpack_from(f"<{len(batch)}i", control.content, 16)
        return numbers

    def close(self) -> None:
        self.engine_end.close()


class StubChannel(Channel):
    """The channel of a tree in the making. stub_end: what all stubs have as their descriptor `number`."""

    def __init__(self, number: int) -> None:
        engine_end, self.stub_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(engine_end, number)

    def close(self) -> None:
        super().close()
        self.stub_end.close()
