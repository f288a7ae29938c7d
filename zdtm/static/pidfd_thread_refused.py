"""A pidfd of one thread that does not lead its process: PIDFD_THREAD of pidfd_open(2).

states: pidfds/pidfd-of-a-thread
flavours: h
needs: feature pidfs
expect: refuse (?i)pidfd|PIDFD_THREAD
"""

import os
import threading

from zdtm.lib.proc import fdinfo
from zdtm.lib.program import equal, ready, run, spawn_thread

PIDFD_THREAD = os.O_EXCL


def main() -> None:
    reader, writer = os.pipe()
    started = threading.Event()

    def body() -> None:
        started.set()
        os.read(reader, 1)

    thread = spawn_thread(body)
    started.wait()
    assert thread.native_id is not None
    fd = os.pidfd_open(thread.native_id, PIDFD_THREAD)
    ready()
    equal(fdinfo(fd)["Pid"], str(thread.native_id), "thread that the pidfd stands for")
    os.write(writer, b"x")
    thread.join()


if __name__ == "__main__":
    run(main)
