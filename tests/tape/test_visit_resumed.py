"""What a thread was doing when it was visited goes on: sleeps, reads, loops, signals that are to come."""

from __future__ import annotations

import os
import signal
import struct
import time
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.kernel.libc import NR
from engine.tape.tape import Tape
from tests.tape.tracing import is_blocked_in, seize, traces, visit_of, visiting
from tests.waiting import SCALE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tape.conftest import Guest

    Start = Callable[[str], Guest]


_SLEEP_SECONDS = 0.5 * SCALE

# The call's result, its errno, when it began and when it ended.
_TIMED = f"""
import time
libc.syscall.argtypes = None
word = ctypes.c_uint32(0)
class timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]
some = timespec({int(_SLEEP_SECONDS)}, {int(_SLEEP_SECONDS % 1 * 1e9)})
rest = timespec()
reader, writer = os.pipe()
def timed(*call):
    tell()
    began = time.monotonic()
    result = libc.syscall(*call)
    error = ctypes.get_errno() if result < 0 else 0
    tell(result=result, error=error, began=began, ended=time.monotonic())
"""

SLEEPS = {
    "nanosleep": "timed({nr}, ctypes.byref(some), ctypes.byref(rest))",
    "clock_nanosleep": "timed({nr}, 1, 0, ctypes.byref(some), ctypes.byref(rest))",
    "futex": "timed({nr}, ctypes.byref(word), 128, 0, ctypes.byref(some), None, 0)",
}
if "poll" in NR:  # aarch64 has ppoll only
    SLEEPS["poll"] = f"timed({{nr}}, None, 0, {int(_SLEEP_SECONDS * 1000)})"


@pytest.mark.parametrize("name", SLEEPS)
def test_call_with_a_restart_block(start: Start, name: str) -> None:
    """It goes on for the rest of its time, without EINTR, and not for all of its time again."""
    subject = start(_TIMED + SLEEPS[name].format(nr=NR[name]))
    subject.let_go()
    wait_until(lambda: is_blocked_in(subject.pid, NR[name]), f"the subject is in {name}")
    first = time.monotonic()
    visits = 0
    while visits < 3 or time.monotonic() - first < _SLEEP_SECONDS / 2:
        last = time.monotonic()
        with visiting(subject.pid) as visit:
            tape = Tape()
            tape.call("getpid")
            visit.run(tape)
        wait_until(lambda: is_blocked_in(subject.pid, NR["restart_syscall"]), f"{name} is restarted")
        visits += 1
    facts = subject.listen()
    if name == "futex":
        assert (facts["result"], facts["error"]) == (-1, 110)
    else:
        assert (facts["result"], facts["error"]) == (0, 0)
    assert facts["began"] + _SLEEP_SECONDS <= facts["ended"] < last + _SLEEP_SECONDS


def test_blocking_read(start: Start) -> None:
    subject = start(_TIMED + f"buffer = ctypes.create_string_buffer(4)\ntimed({NR['read']}, reader, buffer, 4)")
    subject.let_go()
    wait_until(lambda: is_blocked_in(subject.pid, NR["read"]) and _reads_pipe(subject.pid), "the subject reads")
    with visiting(subject.pid) as visit:
        tape = Tape()
        tape.call("getpid")
        visit.run(tape)
    wait_until(lambda: is_blocked_in(subject.pid, NR["read"]), "the subject reads again")
    writer = next(fd for fd in os.listdir(f"/proc/{subject.pid}/fdinfo") if _is_pipe_writer(subject.pid, fd))
    with open(f"/proc/{subject.pid}/fd/{writer}", "wb", buffering=0) as pipe:
        pipe.write(b"data")
    facts = subject.listen()
    assert (facts["result"], facts["error"]) == (4, 0)


def _reads_pipe(pid: int) -> bool:
    with open(f"/proc/{pid}/syscall") as file:
        return int(file.read().split()[1], 16) > 2


def _is_pipe_writer(pid: int, fd: str) -> bool:
    if int(fd) < 3 or not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("pipe:"):
        return False
    with open(f"/proc/{pid}/fdinfo/{fd}") as file:
        return any(line.startswith("flags:") and int(line.split()[1], 8) & os.O_WRONLY for line in file)


def test_busy_loop(start: Start) -> None:
    """A loop in user mode goes on with its registers: it computes the same as without a visit."""
    subject = start(
        "import threading\ntotal = 0\nstop = mmap.mmap(-1, 4096)\n"
        "def work():\n"
        "    global total, seed\n"
        "    seed, total = 1, 0\n"
        "    while not stop[0]:\n"
        "        for _ in range(1000):\n"
        "            seed = (seed * 1103515245 + 12345) % 2147483648\n"
        "            total += 1\n"
        "worker = threading.Thread(target=work); worker.start()\n"
        "tell(tid=worker.native_id)\n"
        "stop[0] = 1; worker.join()\n"
        "check = 1\n"
        "for _ in range(total): check = (check * 1103515245 + 12345) % 2147483648\n"
        "tell(right=check == seed, total=total)"
    )
    tid = subject.facts["tid"]
    before = traces(subject.pid)
    for _ in range(30):
        with visiting(subject.pid, tid) as visit:
            tape = Tape()
            tape.call("getpid")
            visit.run(tape)
    assert traces(subject.pid) == before
    facts = subject.go_on()
    assert facts["right"]
    assert facts["total"] > 0


def test_signal_during_a_visit_waits(start: Start) -> None:
    subject = start(
        "import signal\ngot = []\nsignal.signal(signal.SIGUSR1, lambda *_: got.append(1))\ntell()\ntell(got=len(got))"
    )
    with visiting(subject.pid) as visit:
        os.kill(subject.pid, signal.SIGUSR1)
        tape = Tape()
        pending = tape.buffer(8)
        tape.call("rt_sigpending", pending, 8)
        visit.run(tape)
    assert struct.unpack("<Q", pending.content)[0] >> signal.SIGUSR1 - 1 & 1
    assert subject.go_on()["got"] == 1


def test_sigstop_during_a_visit_stops_the_task_afterwards(start: Start) -> None:
    subject = start("tell()")
    with visiting(subject.pid) as visit:
        os.kill(subject.pid, signal.SIGSTOP)
        tape = Tape()
        tape.call("getpid")
        visit.run(tape)
    wait_until(lambda: _state(subject.pid) == "T", "the subject is stopped")
    os.kill(subject.pid, signal.SIGCONT)
    wait_until(lambda: _state(subject.pid) == "S", "the subject goes on")


def test_stopped_task_stays_stopped(start: Start) -> None:
    subject = start("tell()")
    subject.stop()
    with visiting(subject.pid) as visit:
        tape = Tape()
        own = tape.call("getpid")
        visit.run(tape)
    assert own.result == subject.pid
    wait_until(lambda: _state(subject.pid) == "T", "the subject is stopped again")


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(") ")[2][0]


def test_killed_during_a_visit(start: Start) -> None:
    subject = start("tell()")

    def visit_and_kill() -> None:
        with visit_of(seize(subject.pid), subject.pid) as visit:
            os.kill(subject.pid, signal.SIGKILL)
            tape = Tape()
            tape.call("getpid")
            visit.run(tape)

    with pytest.raises(CrError, match=f"task {subject.pid}: was killed while it was dumped"):
        visit_and_kill()
