"""A pipe end waits in the queue of a unix datagram socket: its original closed or kept, alone or with the other end,
its sender open or closed.

states: unix-sockets/scm-rights-in-flight
flavours: h
kernel: descriptors in flight
"""

import itertools
import os
import socket
from typing import NamedTuple

from zdtm.lib.proc import same_description
from zdtm.lib.program import check, equal, ready, run


class Case(NamedTuple):
    """What was done after, and with, the sending."""

    original_is_kept: bool
    both_ends_are_sent: bool
    sender_is_closed: bool


class Flight(NamedTuple):
    sender: socket.socket
    receiver: socket.socket
    reader: int
    writer: int


def launch(case: Case) -> Flight:
    """Send the write end of a pipe, or one message for each end, the write end first."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reader, writer = os.pipe()
    os.write(writer, b"in the pipe")
    for end in (writer, reader) if case.both_ends_are_sent else (writer,):
        socket.send_fds(sender, [b"here"], [end])
        if not case.original_is_kept:
            os.close(end)
    if case.sender_is_closed:
        sender.close()
    return Flight(sender, receiver, reader, writer)


def receive(receiver: socket.socket) -> int:
    words, fds, flags, _ = socket.recv_fds(receiver, 64, 4, socket.MSG_DONTWAIT)
    equal((words, len(fds), flags), (b"here", 1, 0), "words, number of descriptors and flags of the message")
    return fds[0]


def land(case: Case, flight: Flight) -> None:
    writer = receive(flight.receiver)
    reader = receive(flight.receiver) if case.both_ends_are_sent else flight.reader
    equal(os.read(reader, 64), b"in the pipe", f"contents of the pipe, {case}")
    os.write(writer, b"and out")
    equal(os.read(reader, 64), b"and out", f"what the received end writes, {case}")
    if case.original_is_kept:
        check(same_description(writer, flight.writer), f"the received end is another description, {case}")
        os.close(flight.writer)
    os.close(writer)
    equal(os.read(reader, 64), b"", f"end of the pipe once its write end is closed everywhere, {case}")


def main() -> None:
    cases = [Case(*flags) for flags in itertools.product((False, True), repeat=3)]
    flights = [launch(case) for case in cases]
    ready()
    for case, flight in zip(cases, flights, strict=True):
        land(case, flight)


if __name__ == "__main__":
    run(main)
