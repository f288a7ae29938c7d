"""Descriptions of one pipe that differ in their flags (nonblocking, append), descriptors that differ in close-on-exec,
and a pipe in packet mode.

states: pipes-and-fifos/pipe-description-flags
flavours: h
"""

import fcntl
import os

from zdtm.lib.pipes import reopen
from zdtm.lib.program import equal, ready, run

PACKETS = os.O_DIRECT
"""On a pipe: each write is a packet, and a read takes one packet at most (pipe(2))."""
FLAGS = os.O_ACCMODE | os.O_NONBLOCK | os.O_APPEND | PACKETS
"""Those that mean something for a pipe. O_LARGEFILE, which only open() sets, does not."""


def flags(fd: int) -> tuple[int, int]:
    """Of the description and of the descriptor."""
    return fcntl.fcntl(fd, fcntl.F_GETFL) & FLAGS, fcntl.fcntl(fd, fcntl.F_GETFD)


def main() -> None:
    reader, writer = os.pipe2(os.O_CLOEXEC)
    packet_reader, packet_writer = os.pipe2(PACKETS)
    ends = {
        "reader": reader,
        "nonblocking reader": reopen(reader, os.O_RDONLY | os.O_NONBLOCK),
        "writer": writer,
        "nonblocking writer": reopen(writer, os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND),
        "reader of packets": packet_reader,
        "writer of packets": packet_writer,
    }
    os.set_inheritable(ends["nonblocking reader"], True)
    before = {name: flags(fd) for name, fd in ends.items()}
    equal(len(set(before.values())), len(ends), "number of different sets of flags")
    ready()
    for name, fd in ends.items():
        equal(flags(fd), before[name], f"flags of the {name}")
    for part in (b"one", b"two"):
        os.write(packet_writer, part)
    equal(os.read(packet_reader, 64), b"one", "first packet")
    equal(os.read(packet_reader, 64), b"two", "second packet")
    for part in (b"un", b"divided"):
        os.write(writer, part)
    equal(os.read(reader, 64), b"undivided", "what was written without packet mode")


if __name__ == "__main__":
    run(main)
