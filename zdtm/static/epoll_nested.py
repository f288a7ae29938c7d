"""An epoll instance watches another one, which watches a pipe; a child shares the inner one, whose target it has not.

states: event-fds-and-aio/epoll-watches-on-closed-dup-fds
flavours: h
"""

import os
import select

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()
    inner, outer = select.epoll(), select.epoll()
    reader, writer = os.pipe()
    inner.register(reader, select.EPOLLIN)
    outer.register(inner, select.EPOLLIN)

    def sharer() -> None:
        os.close(reader)
        outer.close()
        gate.wait()
        equal(inner.poll(5), [(reader, select.EPOLLIN)], "events of the inner instance in the child")

    pid = child(sharer)
    gate.expect(1)
    ready()
    equal(outer.poll(0), [], "events of the outer instance before the pipe is written to")
    os.write(writer, b"x")
    equal(outer.poll(0), [(inner.fileno(), select.EPOLLIN)], "events of the outer instance")
    equal(inner.poll(0), [(reader, select.EPOLLIN)], "events of the inner instance")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
