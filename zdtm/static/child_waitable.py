"""A live child can be killed, and waited for by its pid, as before; it is nobody else's.

states: process-tree/wait-able-child
flavours: h
"""

import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()

    def polite() -> None:
        """Exits with 0 when it is asked to, by its handler."""
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        gate.wait()

    def rude() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gate.wait()

    handling, dying = child(polite), child(rude)
    gate.expect(2)
    ready()
    equal(os.waitpid(-1, os.WNOHANG), (0, 0), "children that have ended")
    equal([stat(pid).ppid for pid in (handling, dying)], [os.getpid()] * 2, "parents")
    for pid, status in ((handling, 0), (dying, signal.SIGTERM)):
        os.kill(pid, signal.SIGTERM)
        equal(reap(pid), status, "wait status of the child")


if __name__ == "__main__":
    run(main)
