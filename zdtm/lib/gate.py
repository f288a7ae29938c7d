"""Where children wait for the verdict.

    gate = Gate()
    pid = child(body)           # body calls gate.wait() once its state is set up
    gate.expect(1)
    ready()
    gate.open()                 # body goes on after its gate.wait()
    equal(reap(pid), 0, "status of the child")

The gate is a pipe that only the opener can write to, so a child also passes it when the opener has died, and then
ends: a program that fails leaves no process behind. Reading a pipe is restarted by the kernel after a checkpoint.
"""

from __future__ import annotations

import os
import select
import struct

PID = struct.Struct("i")
MANY = 4096
"""Bytes written to open a gate: more than there are children that hold a copy of the write end."""


class Gate:
    """Children arrive, say so, and wait until it opens."""

    def __init__(self) -> None:
        self._entry, self._bar = os.pipe()
        self._arrivals, self._arrived = os.pipe()

    def wait(self) -> None:
        """In a child: tell the opener that the state is set up, then wait. May be called once by each child."""
        self.settle()
        os.read(self._entry, 1)

    def settle(self) -> None:
        """In a child that does not wait, but looks at is_open() while it works. May be called once by each child."""
        self.arrive()
        os.close(self._bar)

    def is_open(self) -> bool:
        """In a child, after settle(): whether the opener has opened the gate, or died."""
        return bool(select.select([self._entry], [], [], 0)[0])

    def arrive(self) -> None:
        """In a child: tell the opener, but do not wait. For those that are going to stop, or die, or block."""
        os.write(self._arrived, PID.pack(os.getpid()))

    def expect(self, count: int) -> list[int]:
        """Wait for that many arrivals. Gives the pids, in the order of arrival."""
        return [PID.unpack(os.read(self._arrivals, PID.size))[0] for _ in range(count)]

    def open(self) -> None:
        """Let everybody through, for good."""
        os.write(self._bar, bytes(MANY))
        os.close(self._bar)
