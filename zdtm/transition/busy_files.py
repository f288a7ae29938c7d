"""Processes that each write a file again and again, in pieces, and read it back by another descriptor.

states: files/busy-files
flavours: h
"""

import os
from functools import partial

from zdtm.lib.gate import Gate
from zdtm.lib.memory import pattern
from zdtm.lib.program import child, equal, ready, reap, run

TASKS = 13
SIZE, PIECE = 16 << 10, 3000


def work(gate: Gate, task: int) -> None:
    name = f"file{task}"
    writer, reader = os.open(name, os.O_WRONLY | os.O_CREAT), os.open(name, os.O_RDONLY)
    gate.settle()
    version = task
    while not gate.is_open():
        os.lseek(writer, 0, os.SEEK_SET)
        for start in range(0, SIZE, PIECE):
            os.write(writer, pattern(version, SIZE)[start : start + PIECE])
            equal(os.lseek(writer, 0, os.SEEK_CUR), min(start + PIECE, SIZE), "offset of the writer")
        os.fsync(writer)
        os.lseek(reader, 0, os.SEEK_SET)
        equal(os.read(reader, 2 * SIZE), pattern(version, SIZE), f"contents of {name}")
        os.ftruncate(writer, version % SIZE)
        version += TASKS


def main() -> None:
    gate = Gate()
    pids = [child(partial(work, gate, task)) for task in range(TASKS)]
    gate.expect(TASKS)
    ready()
    gate.open()
    for pid in pids:
        equal(reap(pid), 0, "status of a task")


if __name__ == "__main__":
    run(main)
