"""Visits to real tasks: what a tape finds out, and that the thread notices nothing of it."""

from __future__ import annotations

import os
import resource
import signal
import struct
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.kernel.libc import NR
from engine.kernel.procfs import read_comm
from engine.tape.tape import Tape, TapeError
from tests.tape.tracing import code, maps, traces, visiting

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
    allowed = tuple(NR[name] for name in "read write exit_group rt_sigreturn futex restart_syscall brk mmap".split())
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
