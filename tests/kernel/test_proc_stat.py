"""stat and status of a process whose numbers are known."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from engine.kernel.proc_stat import parse_stat, read_stat
from engine.kernel.proc_status import Ids, parse_status, read_status
from engine.kernel.procfs import read

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.kernel.subject import Subject

ODD_NAMES = [b"plain", b") R 1 1 (", b"a b\tc", b"two\nlines\n", b"", b"back\\slash\\n", b"\\\\n\n\\", b"\xff\xfe\x01"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(name: bytes, start: Callable[[str], Subject]) -> None:
    subject = start(f"libc.prctl(15, {name!r}); tell()")
    stat = read_stat(subject.pid)
    assert os.fsencode(stat.comm) == name
    assert stat.ppid == os.getpid()
    assert os.fsencode(read_status(subject.pid).name) == name
    assert stat.state in "RS"
    subject.stop()
    assert read_stat(subject.pid).state == read_status(subject.pid).state == "T"


def test_tree_and_scheduling(start: Callable[[str], Subject]) -> None:
    subject = start("""
os.setsid()
os.setpriority(os.PRIO_PROCESS, 0, 7)
first = os.fork()
if not first:
    os.setpgid(0, 0)
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    tell(pid=os.getpid(), ppid=os.getppid(), session=os.getsid(0))
    os._exit(0)
os.waitpid(first, 0)
""")
    child = read_stat(subject.facts["pid"])
    assert child.pid == subject.facts["pid"]
    assert child.ppid == subject.facts["ppid"] == child.session == subject.facts["session"]
    assert child.pgrp == child.pid
    assert (child.nice, child.priority, child.policy, child.rt_priority) == (7, 27, os.SCHED_BATCH, 0)
    assert (child.num_threads, child.tty_nr, child.tpgid) == (1, 0, -1)
    assert child.exit_signal == signal.SIGCHLD
    forknoexec = 0x40
    assert child.flags & forknoexec


def test_memory_layout(start: Callable[[str], Subject]) -> None:
    """prctl(PR_SET_MM_MAP) is how these numbers come to a restored task: give some, and read them back."""
    subject = start("""
class MmMap(ctypes.Structure):
    names = "start_code end_code start_data end_data start_brk brk start_stack arg_start arg_end env_start env_end"
    _fields_ = [(name, ctypes.c_uint64) for name in names.split()] + [
        ("auxv", ctypes.c_void_p), ("auxv_size", ctypes.c_uint32), ("exe_fd", ctypes.c_int32)]
P = mmap.PAGESIZE
area = map(64 * P, 7)
layout = MmMap(*[area + number * P for number in (1, 2, 3, 4, 5, 5, 6, 7, 8, 9, 10)], exe_fd=-1)
check(libc.prctl(35, 14, ctypes.byref(layout), ctypes.sizeof(layout), 0))
tell(area=area)
""")
    stat, area, page = read_stat(subject.pid), subject.facts["area"], os.sysconf("SC_PAGESIZE")
    fields = "start_code end_code start_data end_data start_brk start_stack arg_start arg_end env_start env_end"
    assert [getattr(stat, field) for field in fields.split()] == [area + number * page for number in range(1, 11)]


def test_threads_differ() -> None:
    tid = 0
    running, end = threading.Event(), threading.Event()

    def run() -> None:
        nonlocal tid
        tid = threading.get_native_id()
        with open(f"/proc/self/task/{tid}/comm", "wb") as comm:
            comm.write(b"other")
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        running.set()
        end.wait()

    thread = threading.Thread(target=run)
    thread.start()
    running.wait()
    try:
        leader, other = read_stat(os.getpid()), read_stat(os.getpid(), tid)
        assert (other.comm, other.pid) == ("other", tid)
        assert leader.comm != "other"
        status = read_status(os.getpid(), tid)
        assert (status.pid, status.threads) == (tid, leader.num_threads)
        assert status.sig_blk & 1 << signal.SIGUSR2 - 1
        assert not read_status(os.getpid()).sig_blk & 1 << signal.SIGUSR2 - 1
    finally:
        end.set()
        thread.join()


def test_status_of_signals(start: Callable[[str], Subject]) -> None:
    subject = start("""
import signal as s
s.pthread_sigmask(s.SIG_BLOCK, [s.SIGUSR1, s.SIGRTMAX])
s.pthread_kill(s.pthread_self() if hasattr(s, "pthread_self") else __import__("_thread").get_ident(), s.SIGUSR1)
os.kill(os.getpid(), s.SIGRTMAX)
tell()
""")
    status = read_status(subject.pid)
    assert status.sig_blk == 1 << 9 | 1 << 63
    assert status.sig_pnd == 1 << 9
    assert status.shd_pnd == 1 << 63


def test_status_of_credentials(start: Callable[[str], Subject]) -> None:
    subject = start("""
os.umask(0o027)
os.setgroups([5, 6, 7000000])
os.setresgid(11, 12, 13)
libc.setfsgid(14)
libc.prctl(8, 1)  # PR_SET_KEEPCAPS
os.setresuid(21, 22, 23)
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
filter = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 0xff, 0x7f]))  # return SECCOMP_RET_ALLOW
class Prog(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
check(libc.prctl(22, 2, ctypes.byref(Prog(1, ctypes.addressof(filter))), 0, 0))
tell()
""")
    status = read_status(subject.pid)
    assert status.uids == Ids(21, 22, 23, 22)
    assert status.gids == Ids(11, 12, 13, 14)
    assert status.groups == (5, 6, 7000000)
    assert status.umask == 0o027
    assert status.no_new_privs
    assert (status.seccomp, status.seccomp_filters) == (2, 1)
    assert status.cap_eff == 0
    assert status.cap_prm
    assert status.cap_prm & ~status.cap_bnd == 0
    assert (status.cap_inh, status.cap_amb, status.tracer_pid) == (0, 0, 0)


def test_status_of_other_kernels() -> None:
    data = read(os.getpid(), "status")
    old = parse_status(b"".join(line for line in data.splitlines(keepends=True) if not line.startswith(b"Seccomp_f")))
    assert old.seccomp_filters is None
    new = parse_status(data + b"x86_Thread_features:\tshstk wrss \nx86_Thread_features_locked:\t\n")
    assert new.x86_thread_features == {"shstk", "wrss"}


def test_stat_of_a_name_like_a_stat_line() -> None:
    data = read(os.getpid(), "stat")
    start, end = data.index(b"("), data.rindex(b")")
    stat = parse_stat(data[: start + 1] + b"x) S 99 99 (y" + data[end:])
    assert stat.comm == "x) S 99 99 (y"
    assert stat.ppid == os.getppid()
