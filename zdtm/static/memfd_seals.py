"""Sealed memfds: against writing, against a change of size, against more seals, and one where only the mapping that
was there before the seal can write.

states: memory/memfd-seals
flavours: h
kernel: seals
"""

import os
from collections.abc import Callable
from fcntl import F_ADD_SEALS, F_GET_SEALS, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

from zdtm.lib.memory import PAGE, PRIVATE, READ, RW, SHARED, mmap, pattern, peek, poke
from zdtm.lib.program import check, equal, ready, run

F_SEAL_FUTURE_WRITE = 0x10


def sealed(name: str, seals: int) -> int:
    fd = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    os.write(fd, pattern(7))
    fcntl(fd, F_ADD_SEALS, seals)
    return fd


def refused(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except PermissionError:
        return
    check(False, f"{what} was allowed")


def main() -> None:
    constant = sealed("constant", F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)
    fixed_size = sealed("fixed size", F_SEAL_SHRINK | F_SEAL_GROW)
    growing = sealed("growing", F_SEAL_SHRINK)
    future = sealed("future", 0)
    private, window = mmap(PAGE, RW, PRIVATE, constant), mmap(PAGE, RW, SHARED, future)
    poke(private, b"own copy")
    fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE)
    memfds = {constant: "constant", fixed_size: "fixed size", growing: "growing", future: "future"}
    seals = {fd: fcntl(fd, F_GET_SEALS) for fd in memfds}
    ready()
    for fd, name in memfds.items():
        equal(fcntl(fd, F_GET_SEALS), seals[fd], f"seals of the memfd {name}")
        equal(os.pread(fd, 2 * PAGE, 0), pattern(7), f"contents of the memfd {name}")

    refused("writing to the constant memfd", lambda: os.pwrite(constant, b"!", 0))
    refused("a writable shared mapping of the constant memfd", lambda: mmap(PAGE, RW, SHARED, constant))
    refused("one more seal for the constant memfd", lambda: fcntl(constant, F_ADD_SEALS, F_SEAL_FUTURE_WRITE))
    equal(peek(mmap(PAGE, READ, SHARED, constant), PAGE), pattern(7), "the constant memfd by a new mapping")
    equal(peek(private, 8), b"own copy", "the private mapping of the constant memfd")

    refused("growing the memfd of fixed size", lambda: os.ftruncate(fixed_size, 2 * PAGE))
    refused("shrinking the memfd of fixed size", lambda: os.ftruncate(fixed_size, 0))
    refused("shrinking the growing memfd", lambda: os.ftruncate(growing, 0))
    os.pwrite(fixed_size, b"written", 0)
    os.ftruncate(growing, 2 * PAGE)

    refused("writing to the memfd with a seal for the future", lambda: os.pwrite(future, b"!", 0))
    poke(window, b"written")
    equal(os.pread(future, 7, 0), b"written", "what the old mapping wrote in spite of the seal for the future")


if __name__ == "__main__":
    run(main)
