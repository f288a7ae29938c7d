"""Four processes in a ring of unix stream sockets pass records of 1 MiB around.

states: unix-sockets/busy-unix-sockets
flavours: h
"""

import socket

from zdtm.lib.program import run
from zdtm.lib.ring import run_ring

TASKS = 4


def link() -> tuple[int, int]:
    reader, writer = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    return reader.detach(), writer.detach()


def main() -> None:
    run_ring([link() for _ in range(TASKS)])


if __name__ == "__main__":
    run(main)
