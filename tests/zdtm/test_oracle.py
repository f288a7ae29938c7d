"""The oracle: quiet when nothing changed, and able to see each kind of change.

The subject is a Python process with one object of each sort. It executes what it is sent, so each test is: a picture,
one change, a second picture.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from zdtm.harness.oracle.compare import Difference, as_text, differences
from zdtm.harness.oracle.picture import KINDS, Picture, take, wait_until_quiet
from zdtm.harness.oracle.stir import interrupt_tree

ALL = set(KINDS)

SUBJECT = """
import ctypes, fcntl, mmap, os, pty, resource, select, signal, socket, struct, sys, termios, threading, time
from pathlib import Path
libc = ctypes.CDLL(None, use_errno=True)
def call(result):
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result
named = open("named", "w+b", buffering=0); named.write(b"0123456789")
dup = os.dup(named.fileno())
gone = open("gone", "w+b", buffering=0); gone.write(b"0123456789"); os.unlink("gone")
memfd = os.memfd_create("m", os.MFD_ALLOW_SEALING); os.write(memfd, b"0123")
reader, writer = os.pipe()
os.write(writer, b"abc")
event = os.eventfd(5)
epoll = select.epoll(); epoll.register(reader, select.EPOLLIN)
one, two = socket.socketpair()
listener = socket.socket(socket.AF_UNIX); listener.bind("listener"); listener.listen(3)
tcp = socket.socket()
master, slave = pty.openpty()
area = mmap.mmap(-1, 1 << 16, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
shared = mmap.mmap(-1, 1 << 16); shared[100] = 7
address = ctypes.addressof(ctypes.c_char.from_buffer(area))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.write(1, b"%d\\n" % address)
while line := os.read(0, 4096):
    exec(line)
    os.write(1, b"done\\n")
"""


class Subject:
    """The process and the way to talk to it."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SUBJECT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=directory,
            start_new_session=True,
            env={"PATH": "/bin"},
        )
        self.pid = self.process.pid
        self.address = int(self._hear())

    def do(self, statement: str) -> None:
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), statement.encode())
        assert self._hear() == "done\n"

    def _hear(self) -> str:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), 100).decode()

    def picture(
        self, kinds: set[str] = ALL, before: Picture | None = None, rseq: dict[int, list[int]] | None = None
    ) -> Picture:
        return take(self.pid, kinds, rseq=rseq, before=before)

    def changes(self, before: Picture, kinds: set[str] = ALL) -> list[Difference]:
        return differences(before, self.picture(kinds, before), kinds)


@pytest.fixture
def subject(tmp_path: Path) -> Iterator[Subject]:
    started = Subject(tmp_path)
    yield started
    started.process.kill()
    started.process.communicate()


# Running a statement is itself a change of memory.
WITHOUT_MEMORY = ALL - {"memory"}

CHANGES = [
    ("os.umask(0o77)", "fs", "Umask"),
    ("os.chdir('/')", "fs", "cwd"),
    ("os.set_inheritable(named.fileno(), True)", "files", "flags"),
    ("named.seek(3)", "files", "pos"),
    ("fcntl.fcntl(named, fcntl.F_SETFL, os.O_APPEND)", "files", "flags"),
    ("os.close(dup)", "files", "is"),
    ("os.dup2(os.open('named', os.O_RDWR), dup); os.lseek(dup, 10, 0)", "files", "is the open file of"),
    ("os.ftruncate(named.fileno(), 5)", "files", "size"),
    ("os.write(writer, b'd')", "files", "bytes in it"),
    ("fcntl.fcntl(writer, 1031, 1 << 18)", "files", "pipe size"),
    ("os.eventfd_write(event, 1)", "files", "eventfd-count"),
    ("epoll.unregister(reader)", "files", "watches"),
    ("epoll.modify(reader, select.EPOLLOUT)", "files", "watches"),
    ("fcntl.fcntl(reader, fcntl.F_SETOWN, os.getpid())", "files", "signals"),
    ("fcntl.fcntl(reader, 10, 40)", "files", "with signal"),
    ("fcntl.fcntl(memfd, 1033, 4)", "files", "seals"),
    ("os.pwrite(memfd, b'9', 0)", "contents", "byte 0x0"),
    ("gone.seek(0); gone.write(b'9'); gone.seek(10)", "contents", "byte 0x0"),
    ("shared[100] = 8", "contents", "byte 0x0"),
    ("fcntl.flock(named, fcntl.LOCK_SH)", "locks", "FLOCK"),
    ("fcntl.lockf(named, fcntl.LOCK_EX, 1, 2)", "locks", "POSIX from 2 to 2"),
    ("one.send(b'x')", "sockets", "state"),
    ("one.shutdown(socket.SHUT_WR)", "sockets", "state"),
    ("one.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)", "sockets", "passcred"),
    ("one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 1, 0))", "sockets", "rcvtimeo"),
    ("listener.listen(5)", "sockets", "state"),
    (
        "connected = socket.socket(socket.AF_UNIX); connected.connect('listener'); os.close(connected.detach())",
        "sockets",
        "state",
    ),
    ("tcp.bind(('127.0.0.1', 0)); tcp.listen(1)", "sockets", "tcp state"),
    ("tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)", "sockets", "nodelay"),
    ("termios.tcsetwinsize(master, (30, 100))", "ttys", "size"),
    ("os.write(master, b'line\\n')", "ttys", "bytes to read"),
    ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "signals", "SigIgn"),
    ("signal.signal(signal.SIGUSR1, lambda *_: None)", "signals", "SigCgt"),
    ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])", "signals", "SigBlk"),
    ("os.kill(os.getpid(), signal.SIGUSR2)", "signals", "ShdPnd"),
    ("signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)", "signals", "SigPnd"),
    ("call(libc.timer_create(1, None, ctypes.byref(ctypes.c_void_p())))", "timers", "0"),
    ("resource.setrlimit(resource.RLIMIT_CORE, (1, 2))", "limits", "Max core file size"),
    ("os.nice(1)", "sched", ""),
    ("os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))", "sched", ""),
    ("Path('/proc/self/comm').write_text('other')", "tree", "comm"),
    ("os.fork() or os._exit(3); os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)", "tree", "is"),
    ("threading.Thread(target=time.sleep, args=(99,), daemon=True).start()", "threads", "ids"),
    ("call(libc.prctl(38, 1, 0, 0, 0))", "creds", "NoNewPrivs"),
    ("call(libc.personality(0x0040000))", "misc", "personality"),
    ("Path('/proc/self/oom_score_adj').write_text('5')", "misc", "oom_score_adj"),
    ("Path('/proc/self/coredump_filter').write_text('1')", "mm", "coredump_filter"),
    ("call(libc.mprotect(ctypes.c_void_p(address), 4096, 1))", "maps", ""),
    ("call(libc.madvise(ctypes.c_void_p(address), 4096, 10))", "maps", ""),
    ("call(libc.munmap(ctypes.c_void_p(address), 4096))", "maps", ""),
]

CHANGES_FOR_ROOT = [
    ("os.setgroups([77])", "creds", "Groups"),
    ("os.setegid(77)", "creds", "Gid"),
    ("call(libc.unshare(0x4000000))", "namespaces", "uts"),
]


@pytest.mark.parametrize(("statement", "kind", "key"), CHANGES + CHANGES_FOR_ROOT)
def test_sees(subject: Subject, statement: str, kind: str, key: str) -> None:
    before = subject.picture(WITHOUT_MEMORY)
    subject.do(statement)
    found = subject.changes(before, WITHOUT_MEMORY)
    assert [item for item in found if item.kind == kind and key in item.key], as_text(found)


def test_sees_the_setup(subject: Subject) -> None:
    """The picture of an unchanged subject has facts of almost every kind, so silence means something."""
    facts = subject.picture().tasks[subject.pid]
    missing = ALL - {kind for kind, values in facts.items() if values}
    assert missing == {"timers", "locks", "sharing", "memory", "contents"}
    assert facts["files"]["table"] == f"that of {subject.pid}"


def test_silent_about_nothing(subject: Subject) -> None:
    before = subject.picture()
    assert subject.changes(before) == []


@pytest.fixture
def waiting(subject: Subject) -> Subject:
    """A subject in the call that programs wait in, which an interruption ends with EINTR."""
    subject.do("os.write(1, b'done\\n'); signal.sigwaitinfo([signal.SIGUSR2])")
    wait_until_quiet(subject.pid)
    return subject


def test_an_interruption_shows_once(waiting: Subject) -> None:
    """The reason for stir.py: after the first interruption a second one changes nothing."""
    before = waiting.picture()
    rseq = interrupt_tree(waiting.pid)
    assert {item.kind for item in waiting.changes(before)} == {"memory"}
    before = waiting.picture(rseq=rseq)
    for _ in range(3):
        interrupt_tree(waiting.pid)
        assert as_text(waiting.changes(before)) == ""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_a_change_of_the_cpu_does_not_show(waiting: Subject) -> None:
    """The kernel writes the number of the CPU into the rseq area, wherever that is."""
    one, other, *_ = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(waiting.pid, {one})
    rseq = interrupt_tree(waiting.pid)
    before, naive = waiting.picture(rseq=rseq), waiting.picture()
    os.sched_setaffinity(waiting.pid, {other})
    interrupt_tree(waiting.pid)
    assert as_text(waiting.changes(before)) == ""
    assert [item.kind for item in waiting.changes(naive)] == ["memory"]


def test_sees_one_byte_of_private_memory(subject: Subject) -> None:
    subject.do("area[5000] = 1")
    before = subject.picture()
    _poke(subject, 5000, b"\2")
    (found,) = subject.changes(before)
    assert found.kind == "memory"
    assert f"page {subject.address + 4096:#x}" in found.key
    assert "bytes 0x388 to 0x389" in found.key
    assert (found.before, found.after) == ("01", "02")


def test_sees_a_page_that_became_empty_or_appeared(subject: Subject) -> None:
    subject.do("area[5000] = 1")
    before = subject.picture()
    _poke(subject, 5000, b"\0")
    _poke(subject, 20000, b"\3")
    assert len(subject.changes(before)) == 2


def test_a_touched_page_of_zeros_is_no_change(subject: Subject) -> None:
    before = subject.picture()
    _poke(subject, 20000, b"\0")
    assert subject.changes(before) == []


def test_a_copy_of_a_files_page_is_no_change(subject: Subject) -> None:
    """A private page that says what the file says reads the same, whether it is there or not."""
    subject.do("text = mmap.mmap(named.fileno(), 10, flags=mmap.MAP_PRIVATE); text[0]")
    subject.do("place = ctypes.addressof(ctypes.c_char.from_buffer(text)); Path('place').write_text(str(place))")
    place = int((Path(f"/proc/{subject.pid}/cwd") / "place").read_text())
    before = subject.picture()
    with open(f"/proc/{subject.pid}/mem", "r+b", buffering=0) as file:
        file.seek(place)
        file.write(b"0")
        assert subject.changes(before) == []
        file.seek(place)
        file.write(b"1")
    assert [item.kind for item in subject.changes(before)] == ["memory"]


def test_a_huge_hole_is_cheap(subject: Subject) -> None:
    """10 GiB with two pages in it: time and memory are those of two pages."""
    subject.do("hole = mmap.mmap(-1, 10 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)")
    subject.do("hole[6 << 30] = 1; hole[9 << 30] = 2")
    picture = subject.picture()
    assert len(picture.pages[subject.pid].sums) < 10_000


def test_says_who_changed_and_how(subject: Subject) -> None:
    before = subject.picture(WITHOUT_MEMORY)
    subject.do("os.umask(0o77)")
    text = as_text(subject.changes(before, {"fs"}))
    pid = subject.pid
    assert text == f"task {pid}\n  fs\n    Umask of {pid}\n      - 0022\n      + 0077"


def test_a_lost_descriptor_renames_no_other(subject: Subject) -> None:
    """Names of anonymous objects do not shift when one of them goes."""
    before = subject.picture(WITHOUT_MEMORY)
    subject.do("os.close(reader); os.close(writer)")
    found = subject.changes(before, {"files", "sockets"})
    touched = {item.key.split()[0] for item in found}
    assert len(touched) == 3, as_text(found)  # both ends and the epoll that watched one


def test_a_busy_tree_is_refused(subject: Subject) -> None:
    subject.do("threading.Thread(target=lambda: [None for _ in iter(int, 1)], daemon=True).start()")
    with pytest.raises(TimeoutError, match="not at rest"):
        subject.picture()


def _poke(subject: Subject, offset: int, data: bytes) -> None:
    with open(f"/proc/{subject.pid}/mem", "r+b", buffering=0) as file:
        file.seek(subject.address + offset)
        file.write(data)
