"""Children stopped by SIGSTOP, with more of it pending: for the process, for the thread, and for both.

states: process-tree/stopped-tasks
flavours: h
kernel: group stops
"""

import os
import signal

from zdtm.lib.gate import Gate
from zdtm.lib.libc import call
from zdtm.lib.proc import stat, status
from zdtm.lib.program import child, equal, ready, reap, run, wait_until

PENDING = ((), ("process",), ("thread",), ("process", "thread"))


def stop(pid: int, again: tuple[str, ...]) -> None:
    """Stop the child and wait until it is; then send more. The report to the parent stays to be taken."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)
    if "process" in again:
        os.kill(pid, signal.SIGSTOP)
    if "thread" in again:
        call("tgkill", pid, pid, signal.SIGSTOP)


def pending(pid: int) -> tuple[str, str]:
    """Bit sets of what is pending for the thread and for the process."""
    fields = status(pid)
    return fields["SigPnd"], fields["ShdPnd"]


def report(pid: int, kind: int) -> tuple[int, int]:
    info = os.waitid(os.P_PID, pid, kind)
    assert info is not None
    return info.si_code, info.si_status


def main() -> None:
    gate = Gate()
    reader, writer = os.pipe()

    def reading() -> None:
        gate.wait()
        equal(os.read(reader, 4), b"data", "what was in the pipe all the time")

    pids = [child(reading) for _ in PENDING]
    gate.expect(len(pids))
    os.write(writer, b"data" * len(pids))
    for pid, again in zip(pids, PENDING, strict=True):
        stop(pid, again)
    before = [pending(pid) for pid in pids]
    ready()
    # A task that its tracer has let go stops once more on its own.
    wait_until(lambda: all(stat(pid).state == "T" for pid in pids), "all the children are stopped")
    equal([pending(pid) for pid in pids], before, "what is pending for each thread and process")
    for pid in pids:
        equal(report(pid, os.WSTOPPED), (os.CLD_STOPPED, signal.SIGSTOP), "report of the stop")
        os.kill(pid, signal.SIGCONT)
        equal(report(pid, os.WCONTINUED), (os.CLD_CONTINUED, signal.SIGCONT), "report of the continuation")
    gate.open()
    for pid in pids:
        equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
