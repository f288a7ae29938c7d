"""The master of a pseudo terminal is in the child alone, twice, the slave in the parent alone; a line is on its way.

states: tty-and-pty/master-shared-by-fork
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.proc import same_description
from zdtm.lib.program import check, child, equal, ready, reap, run
from zdtm.lib.terminal import new_master, open_slave, read_within, set_raw


def main() -> None:
    gate = Gate()
    master, path = new_master()
    slave = open_slave(path)
    set_raw(slave)

    def holder() -> None:
        copy = os.dup2(master, 70)
        os.close(slave)
        gate.wait()
        check(same_description(master, copy), "the two masters are two descriptions")
        equal(read_within(copy, 16), b"line from before", "output from before")
        os.write(master, b"answer")
        equal(read_within(copy, 6), b"thanks", "output after the answer")

    pid = child(holder)
    os.close(master)
    os.write(slave, b"line from before")
    gate.expect(1)
    ready()
    gate.open()
    equal(read_within(slave, 6), b"answer", "input from the child")
    os.write(slave, b"thanks")
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
