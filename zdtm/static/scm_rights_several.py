"""Unix messages with several descriptors: in one control message, in two, in the middle of a stream, and over a
socket that keeps message boundaries.

states: unix-sockets/scm-rights-with-several-fds
flavours: h
"""

import array
import os
import socket

from zdtm.lib.program import equal, ready, run

Control = list[tuple[int, int, bytes]]


def control(*groups: list[int]) -> Control:
    """One SCM_RIGHTS control message for each group of descriptors."""
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds).tobytes()) for fds in groups]


def receive(sock: socket.socket, size: int) -> tuple[bytes, list[int]]:
    words, fds, _, _ = socket.recv_fds(sock, size, 16, socket.MSG_DONTWAIT)
    return words, fds


def check_pipes(fds: list[int], names: list[bytes]) -> None:
    """Each is the read end of the pipe that holds its name."""
    equal([os.read(fd, 64) for fd in fds], names, "names in the pipes that have arrived")


def main() -> None:
    names = [b"pipe %d" % number for number in range(8)]
    readers = []
    for name in names:
        reader, writer = os.pipe()
        os.write(writer, name)
        readers.append(reader)
    stream, seqpacket, dgram = (
        socket.socketpair(socket.AF_UNIX, kind)
        for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM)
    )
    dgram[0].sendmsg([b"one group"], control(readers[0:2]))
    dgram[0].sendmsg([b"two groups"], control(readers[2:3], readers[3:4]))
    seqpacket[0].sendmsg([b"in order"], control([readers[5], readers[4]]))
    seqpacket[0].send(b"bare")
    stream[0].send(b"before")
    stream[0].sendmsg([b"with"], control(readers[6:8]))
    stream[0].send(b"after")
    for reader in readers:
        os.close(reader)
    ready()
    words, fds = receive(dgram[1], 64)
    equal(words, b"one group", "first datagram")
    check_pipes(fds, names[0:2])
    words, fds = receive(dgram[1], 64)
    equal(words, b"two groups", "second datagram")
    check_pipes(fds, names[2:4])
    words, fds = receive(seqpacket[1], 64)
    equal(words, b"in order", "first packet")
    check_pipes(fds, [names[5], names[4]])
    equal(receive(seqpacket[1], 64), (b"bare", []), "second packet")
    # A read of a stream never goes past bytes that descriptors are attached to.
    equal(receive(stream[1], 6), (b"before", []), "the stream up to the descriptors")
    words, fds = receive(stream[1], 4)
    equal(words, b"with", "the stream at the descriptors")
    check_pipes(fds, names[6:8])
    equal(receive(stream[1], 64), (b"after", []), "the stream after the descriptors")


if __name__ == "__main__":
    run(main)
