"""A program at work: threads that rewrite half a gigabyte and look after what they wrote, and processes that talk over
sockets. It says nothing until SIGTERM ends it: then its exit status is 0, or its output tells what it found wrong.

    program.py MEBIBYTES      in the directory for its files: `progress`, which counts the rounds of each worker
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import socket
import struct
import sys
import threading
import traceback
from collections.abc import Callable
from zlib import crc32

THREADS, CLIENTS = 4, 3
WORKERS = THREADS + 2 * CLIENTS
"""Each has its place in `progress`: the threads, the clients, and the threads that serve these."""

_CHUNK = 1 << 20
_COUNTER = struct.Struct("<Q")


def progress_in(place: str) -> list[int]:
    """How many rounds each worker has done so far."""
    with open(os.path.join(place, "progress"), "rb") as file:
        return [number for (number,) in _COUNTER.iter_unpack(file.read(WORKERS * _COUNTER.size))]


class _Program:
    """stop: set when all are to come to their end. Every worker says in `progress` that it goes on."""

    def __init__(self, mebibytes: int) -> None:
        with open("progress", "w+b") as file:
            file.truncate(mmap.PAGESIZE)
            self.progress = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        self.chunks = mebibytes // THREADS
        self.stop = threading.Event()
        self.wrong: list[str] = []

    def work(self, number: int, rounds: Callable[[], bool]) -> None:
        """Do rounds until one says that it was the last."""
        try:
            done = 0
            while rounds():
                done += 1
                _COUNTER.pack_into(self.progress, number * _COUNTER.size, done)
        except BaseException:
            self.wrong.append(f"worker {number}: {traceback.format_exc()}")
            self.stop.set()

    def rewriter(self) -> Callable[[], bool]:
        """Rounds that check one chunk of memory, picked at random, and fill it anew."""
        chunks = [bytearray(os.urandom(4096) * (_CHUNK // 4096)) for _ in range(self.chunks)]
        sums = [crc32(chunk) for chunk in chunks]

        def check(index: int) -> None:
            if crc32(chunks[index]) != sums[index]:
                raise AssertionError(f"chunk {index} is not what was written to it")

        def rewrite() -> bool:
            if self.stop.wait(0.001):
                for index in range(len(chunks)):
                    check(index)
                return False
            index = random.randrange(len(chunks))
            check(index)
            chunks[index][:] = os.urandom(4096) * (_CHUNK // 4096)
            sums[index] = crc32(chunks[index])
            return True

        return rewrite

    def server(self, connection: socket.socket) -> Callable[[], bool]:
        """Rounds that answer one message with its number; None for the last."""
        numbers = iter(range(1 << 60))

        def answer() -> bool:
            size, number = struct.unpack("<QQ", _receive(connection, 16))
            if number != next(numbers):
                raise AssertionError(f"message {number} is not the next one")
            if _receive(connection, size) != _message(number):
                raise AssertionError(f"message {number} is damaged")
            last = self.stop.is_set()
            connection.sendall(struct.pack("<Q?", number, last))
            return not last

        return answer


def _client(connection: socket.socket) -> Callable[[], bool]:
    """Rounds that send one message and wait for the answer."""
    numbers = iter(range(1 << 60))

    def ask() -> bool:
        number = next(numbers)
        text = _message(number)
        connection.sendall(struct.pack("<QQ", len(text), number) + text)
        answered, last = struct.unpack("<Q?", _receive(connection, 9))
        if answered != number:
            raise AssertionError(f"answer {answered} to message {number}")
        return not last

    return ask


def _message(number: int) -> bytes:
    """Sizes differ, up to more than a socket takes at once."""
    return struct.pack("<Q", number) * (number * 7919 % 50_000)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise AssertionError("the other end is gone")
        data += part
    return bytes(data)


def _pairs(listener: socket.socket) -> list[tuple[socket.socket, socket.socket]]:
    """(server's end, client's end): one of socketpair(2), the others over a name, which the kernel's tables hold."""
    pairs = [socket.socketpair()]
    while len(pairs) < CLIENTS:
        client = socket.socket(socket.AF_UNIX)
        client.connect("service")
        pairs.append((listener.accept()[0], client))
    return pairs


def main() -> int:
    program = _Program(int(sys.argv[1]))
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("service")
    listener.listen()
    children = []
    pairs = _pairs(listener)
    for number, (_, client) in enumerate(pairs, THREADS):
        child = os.fork()
        if not child:
            program.work(number, _client(client))
            sys.stderr.write("".join(program.wrong))
            os._exit(bool(program.wrong))
        children.append(child)
    threads = [threading.Thread(target=program.work, args=(n, program.rewriter())) for n in range(THREADS)]
    for number, (served, client) in enumerate(pairs, THREADS + CLIENTS):
        client.close()
        threads.append(threading.Thread(target=program.work, args=(number, program.server(served))))
    for thread in threads:
        thread.start()
    signal.sigwait({signal.SIGTERM})
    program.stop.set()
    for thread in threads:
        thread.join()
    ends = [os.waitpid(child, 0)[1] for child in children]
    sys.stderr.write("".join(program.wrong))
    return int(bool(program.wrong) or any(ends))


if __name__ == "__main__":
    sys.exit(main())
