"""Children that have ended and are not reaped: by exit codes, and by signals.

states: process-tree/zombies
flavours: h
kernel: clone3, set_tid
"""

import os
import resource
import signal
from collections.abc import Callable

from zdtm.lib.proc import stat
from zdtm.lib.program import child, equal, ready, run

CODES = (0, 3, 255)
SIGNALS = (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM, signal.SIGRTMIN)


def exiting(code: int) -> Callable[[], None]:
    return lambda: os._exit(code)


def killed(signo: signal.Signals) -> Callable[[], None]:
    def body() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.kill(os.getpid(), signo)

    return body


def look(pid: int) -> tuple[int, ...]:
    """What waitid(2) says of a dead child, which stays unreaped."""
    info = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert info is not None
    return info.si_pid, info.si_uid, info.si_signo, info.si_status, info.si_code


def main() -> None:
    expected = {child(exiting(code)): code << 8 for code in CODES}
    expected |= {child(killed(signo)): int(signo) for signo in SIGNALS}
    seen = {pid: look(pid) for pid in expected}
    entries = {pid: stat(pid) for pid in expected}
    ready()
    for pid, status in expected.items():
        equal(stat(pid), entries[pid], "name, state and family of a zombie")
        equal(look(pid), seen[pid], "what waitid says of a zombie")
        equal(os.waitpid(pid, 0), (pid, status), "pid and wait status")
    try:
        equal(os.wait(), None, "one more dead child")
    except ChildProcessError:
        pass


if __name__ == "__main__":
    run(main)
