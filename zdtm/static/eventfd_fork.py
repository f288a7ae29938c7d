"""One eventfd in two processes, under two numbers: still one counter.

states: event-fds-and-aio/eventfd
flavours: h
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()
    ours = os.eventfd(5)

    def sharer() -> None:
        theirs = os.dup2(ours, 77)
        os.close(ours)
        gate.wait()
        os.eventfd_write(theirs, 37)

    pid = child(sharer)
    gate.expect(1)
    ready()
    gate.open()
    equal(reap(pid), 0, "status of the child")
    equal(os.eventfd_read(ours), 42, "what the parent had and the child added")


if __name__ == "__main__":
    run(main)
