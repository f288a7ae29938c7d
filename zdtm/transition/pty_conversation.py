"""Two tasks talk over a pseudo terminal without pause: one types lines and checks their echo, the other answers each.
A third floods a raw one, and checks what comes back.

states: tty-and-pty/pty-pair-as-controlling-tty
flavours: h
"""

import os

from zdtm.lib.memory import pattern
from zdtm.lib.pipes import write_all
from zdtm.lib.program import child, equal, go_on, reap, run, running
from zdtm.lib.terminal import new_master, open_slave, read_within, set_raw

RECORD = 3000
"""Bytes at once on the raw terminal: both ends hold as much without being read."""
LAST = b"no more"


def answer(slave: int) -> None:
    """In canonical mode: a read gives a line."""
    number, line = 0, b""
    while line != LAST + b"\n":
        line = os.read(slave, 1 << 12)
        equal(line in (b"question %d\n" % number, LAST + b"\n"), True, f"line {number}, {line!r}, is what was typed")
        os.write(slave, b"answer %d\n" % number)
        number += 1


def send_back(slave: int) -> None:
    while (record := read_within(slave, RECORD)) != b"." * RECORD:
        write_all(slave, record)


def main() -> None:
    (lines, path), (raw, raw_path) = new_master(), new_master()
    slave, raw_slave = open_slave(path), open_slave(raw_path)
    set_raw(raw_slave)
    pids = [child(lambda: answer(slave)), child(lambda: send_back(raw_slave))]
    running()
    number = 0
    while go_on():
        os.write(lines, b"question %d\n" % number)
        record = pattern(number, RECORD)
        write_all(raw, record)
        expected = b"question %d\r\nanswer %d\r\n" % (number, number)
        equal(read_within(lines, len(expected)), expected, f"echo and answer {number}")
        equal(read_within(raw, RECORD) == record, True, f"record {number} comes back as it was")
        number += 1
    os.write(lines, LAST + b"\n")
    write_all(raw, b"." * RECORD)
    equal([reap(pid) for pid in pids], [0, 0], "statuses of the tasks")


if __name__ == "__main__":
    run(main)
