"""Visits to real tasks: what a tape finds out, and that the thread notices nothing of it."""

from __future__ import annotations

import os
import resource
import signal
import struct
import time
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.kernel.libc import NR
from engine.kernel.procfs import read_comm
from engine.tape.tape import Tape, TapeError
from tests.tape.tracing import code, is_blocked_in, maps, seize, traces, visit_of, visiting
from tests.waiting import SCALE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.tape.conftest import Guest

    Start = Callable[[str], Guest]

IDLE = "tell()"


def test_values(start: Start) -> None:
    subject = start("os.setpgid(0, 0); os.umask(0o123); tell()")
    with visiting(subject.pid) as visit:
        tape = Tape()
        pid, group = tape.call("getpid"), tape.call("getpgid", 0)
        size = struct.calcsize("16Q")
        limit = tape.buffer(size)
        tape.call("getrlimit", 7, limit)
        name = tape.buffer(16)
        tape.call("prctl", 16, name)
        missing = tape.call("close", 12345, may_fail=True)
        visit.run(tape)
    assert pid.result == group.result == subject.pid
    assert limit.content[:16] == struct.pack("QQ", *resource.getrlimit(resource.RLIMIT_NOFILE))
    assert os.fsdecode(name.content.rstrip(b"\0")) == read_comm(subject.pid)
    assert missing.result == -9


def test_several_tapes(start: Start, tmp_path: Path) -> None:
    """A file made, written and read by the task itself, one tape after the other."""
    subject = start(IDLE)
    before = traces(subject.pid), code(subject.pid)
    path = os.fsencode(tmp_path / "made") + b"\0"
    with visiting(subject.pid) as visit:
        tape = Tape()
        file = tape.call("openat", -100, tape.buffer(path), os.O_RDWR | os.O_CREAT, 0o600)
        tape.call("write", file, tape.buffer(b"by the task"), 11)
        visit.run(tape)
        tape = Tape()
        text = tape.buffer(32)
        tape.call("pread64", file.result, text, 32, 3)
        tape.call("close", file.result)
        visit.run(tape)
    assert text.content.rstrip(b"\0") == b"the task"
    assert (traces(subject.pid), code(subject.pid)) == before


def test_failing_call(start: Start) -> None:
    """It says what failed; the visit goes on, and nothing stays behind."""
    subject = start(IDLE)
    before = traces(subject.pid)
    with visiting(subject.pid) as visit:
        tape = Tape()
        tape.call("openat", -100, tape.buffer(b"/no/such/file\0"), 0)
        with pytest.raises(TapeError, match="openat.*No such file or directory"):
            visit.run(tape)
        tape = Tape()
        again = tape.call("getpid")
        visit.run(tape)
    assert again.result == subject.pid
    assert traces(subject.pid) == before


def test_large_tape(start: Start) -> None:
    """As much as fits, and no more."""
    subject = start(IDLE)
    with visiting(subject.pid) as visit:
        tape = Tape()
        calls = [tape.call("getppid") for _ in range(visit.arena_size // 64)]
        visit.run(tape)
        assert {call.result for call in calls} == {os.getpid()}
        tape.call("getppid")
        with pytest.raises(ValueError, match="does not fit"):
            visit.run(tape)


def test_lend(start: Start, tmp_path: Path) -> None:
    subject = start(IDLE)
    before = traces(subject.pid)
    (tmp_path / "lent").write_bytes(b"of the engine")
    fd = os.open(tmp_path / "lent", os.O_RDONLY)
    with visiting(subject.pid) as visit:
        with visit.lend(fd) as number:
            tape = Tape()
            text = tape.buffer(13)
            tape.call("read", number, text, 13)
            visit.run(tape)
            assert os.path.exists(f"/proc/{subject.pid}/fd/{number}")
        assert not os.path.exists(f"/proc/{subject.pid}/fd/{number}")
    os.close(fd)
    assert text.content == b"of the engine"
    assert traces(subject.pid) == before


def test_every_thread(start: Start) -> None:
    """Visits to the threads of a process, one after the other, through the same cave."""
    subject = start(
        "import threading\nfor _ in range(3): threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "tell()"
    )
    tids = sorted(map(int, os.listdir(f"/proc/{subject.pid}/task")))
    assert len(tids) == 4
    before = traces(subject.pid)
    for tid in tids:
        with visiting(subject.pid, tid) as visit:
            tape = Tape()
            own = tape.call("gettid")
            visit.run(tape)
        assert own.result == tid
    assert traces(subject.pid) == before


# What the thread was doing.

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


# Signals.


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
    subject = start(IDLE)
    with visiting(subject.pid) as visit:
        os.kill(subject.pid, signal.SIGSTOP)
        tape = Tape()
        tape.call("getpid")
        visit.run(tape)
    wait_until(lambda: _state(subject.pid) == "T", "the subject is stopped")
    os.kill(subject.pid, signal.SIGCONT)
    wait_until(lambda: _state(subject.pid) == "S", "the subject goes on")


def test_stopped_task_stays_stopped(start: Start) -> None:
    subject = start(IDLE)
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
    subject = start(IDLE)

    def visit_and_kill() -> None:
        with visit_of(seize(subject.pid), subject.pid) as visit:
            os.kill(subject.pid, signal.SIGKILL)
            tape = Tape()
            tape.call("getpid")
            visit.run(tape)

    with pytest.raises(CrError, match=f"task {subject.pid}: was killed while it was dumped"):
        visit_and_kill()


# Tasks that make it hard.


def test_full_descriptor_table(start: Start) -> None:
    """No descriptor free for the socket: a clear error, and a task that is none the worse."""
    subject = start(
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "try:\n  while True: os.dup(0)\nexcept OSError: pass\ntell()\ntell(fds=len(os.listdir('/proc')))"
    )
    before = traces(subject.pid)
    with pytest.raises(CrError, match=f"task {subject.pid}: .*descriptor.*RLIMIT_NOFILE"), visiting(subject.pid):
        pass
    assert traces(subject.pid) == before


def test_one_descriptor_short(start: Start) -> None:
    """Room for the socket but not for what is lent."""
    subject = start(
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\nfds = []\n"
        "try:\n  while True: fds.append(os.dup(0))\nexcept OSError: pass\nfor fd in fds[-2:]: os.close(fd)\ntell()"
    )
    before = traces(subject.pid)
    with visiting(subject.pid) as visit:
        tape = Tape()
        tape.call("dup", 0)
        visit.run(tape)
        with pytest.raises(CrError, match=f"task {subject.pid}: .*RLIMIT_NOFILE"), visit.lend(0):
            pass
        tape = Tape()
        again = tape.call("getpid")
        visit.run(tape)
    assert again.result == subject.pid
    left = traces(subject.pid)
    assert len(left["descriptors"]) == len(before["descriptors"]) + 1  # type: ignore[arg-type]


def test_filtered_task(start: Start) -> None:
    """A filter that kills for anything but write, read, exit: the visit is not judged by it, the task still is."""
    allowed = tuple(NR[name] for name in "read write exit_group rt_sigreturn futex restart_syscall brk".split())
    subject = start(
        "import struct\n"
        f"allowed = {allowed}\n"
        "rules = [(0x20, 0, 0, 0)]\n"
        "rules += [(0x15, len(allowed) - n, 0, number) for n, number in enumerate(allowed)]\n"
        "rules += [(6, 0, 0, 0x80000000), (6, 0, 0, 0x7fff0000)]\n"
        "program = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *rule) for rule in rules))\n"
        "header = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', len(rules), ctypes.addressof(program)))\n"
        "check(libc.prctl(38, 1, 0, 0, 0))\n"
        "check(libc.prctl(22, 2, ctypes.byref(header), 0, 0))\n"
        "tell()\n"
        "tell()\n"
        "os.getppid()\n"
    )
    before = traces(subject.pid)
    with visiting(subject.pid) as visit:
        tape = Tape()
        parent = tape.call("getppid")
        visit.run(tape)
    assert parent.result == os.getpid()
    assert traces(subject.pid) == before
    subject.go_on()
    assert subject.end() == -signal.SIGSYS


# ld.so itself looks into the vDSO: the child must not need it any more for anything new.
_WITHOUT_VDSO = """
lines = [line.split() for line in open("/proc/self/maps")]
areas = [[int(text, 16) for text in words[0].split("-")] for words in lines if words[-1] in
         ("[vvar]", "[vvar_vclock]", "[vdso]")]
reader, writer = os.pipe()
plain = ctypes.CDLL(None)
munmap, pause = plain.munmap, plain.pause
arguments = [(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin)) for begin, end in areas]
child = os.fork()
if not child:
    plain.prctl(1, 9)
    for pair in arguments:
        munmap(*pair)
    os.write(writer, b"!")
    pause()
os.read(reader, 1)
tell(child=child)
"""


def test_task_without_vdso(start: Start) -> None:
    """It is entered through the padding behind some library's code, which is as it was afterwards."""
    pid = start(_WITHOUT_VDSO).facts["child"]
    assert "[vdso]" not in [name for _, _, name in maps(pid)]
    before = traces(pid), code(pid)
    with visiting(pid) as visit:
        tape = Tape()
        own = tape.call("getpid")
        visit.run(tape)
    assert own.result == pid
    assert (traces(pid), code(pid)) == before
