"""What can't be dumped is refused: all reasons in one run, each with task, object and remedy, and the tree runs on
untouched."""

from __future__ import annotations

import os
import re
import socket
from typing import TYPE_CHECKING

import pytest

from engine.kernel.proc_stat import read_stat
from tests.hostile import ward
from tests.hostile.subject import Subject
from tests.hostile.trial import errors_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_START = r"""
import ctypes, fcntl, mmap, os, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def checked(result, what=""):
    if result < 0: raise OSError(ctypes.get_errno(), what)
    return result
def forever():
    while True: time.sleep(0.001)
"""
_END = """
os.mkdir("ready")
forever()
"""

_MANY = r"""
# No file of the system at all.
io_uring = checked(libc.syscall(425, 4, ctypes.create_string_buffer(120)), "io_uring_setup")
userfaultfd = checked(libc.syscall(323, 1), "userfaultfd")
perf = ctypes.create_string_buffer(struct.pack("IIQ", 1, 120, 9), 120)
perf_event = checked(libc.syscall(298, perf, 0, -1, -1, 0), "perf_event_open")
bpf_map = checked(libc.syscall(321, 0, ctypes.create_string_buffer(struct.pack("IIII", 9, 4, 4, 1), 72), 72), "bpf")

# Sockets.
listener = socket.create_server(("127.0.0.1", 0))
mptcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
stranger = socket.socket(fileno=int(sys.argv[1]))

# Files: locked, renamed away, deleted and large, hidden by a mount.
lock = os.open("locked", os.O_RDWR | os.O_CREAT); fcntl.lockf(lock, fcntl.LOCK_EX)
linked = os.open("linked", os.O_RDWR | os.O_CREAT); os.link("linked", "other"); os.unlink("linked")
ghost = os.open("ghost", os.O_RDWR | os.O_CREAT); os.write(ghost, b"x" * 20000); os.unlink("ghost")
os.mkdir("hidden"); os.mkdir("cwd")
hidden = os.open("hidden/file", os.O_RDWR | os.O_CREAT); os.write(hidden, bytes(8192))
mapped = mmap.mmap(hidden, 8192)
checked(libc.mount(b"none", b"hidden", b"tmpfs", 0, None))

# Memory and signals.
segment = checked(libc.shmget(0, 4096, 0o600))
libc.shmat.restype = ctypes.c_void_p
assert libc.shmat(segment, None, 0)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTRAP})
os.kill(os.getpid(), signal.SIGTRAP)
threading.Thread(target=forever, daemon=True).start()
if os.fork() == 0:
    forever()
"""

_NAMESPACES = r"""
# Everything but the pid and the user namespace, in a child.
if os.fork() == 0:
    checked(libc.unshare(0x20000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x40000000 | 0x80))
    os.mkdir("moved")
    if os.fork() == 0: forever()
    forever()
while not os.path.exists("moved"): time.sleep(0.001)
if os.fork() == 0:
    checked(libc.unshare(0x10000000))
    os.mkdir("user")
    forever()
while not os.path.exists("user"): time.sleep(0.001)
checked(libc.unshare(0x20000000))
if os.fork() == 0: forever()
"""

_SHARED_FS = r"""
if libc.syscall(56, 0x200 | signal.SIGCHLD, 0, 0, 0, 0) == 0:
    forever()
"""


# Options that tell of what can't be dumped, or allow it, do not let it pass.
_TOLD = (
    "--root / --empty-ns net --tcp-established --skip-in-flight --skip-mnt /moved --enable-fs all --ext-mount-map auto "
    "--enable-external-masters --enable-external-sharing --external mnt[/moved]:key"
).split()


def _refused(place: Path, program: str, *arguments: str, own_session: bool = True) -> tuple[Subject, list[str]]:
    """The subject, unharmed, and the reasons."""
    (place / "subject").mkdir()
    (place / "images").mkdir()
    subject = Subject(place / "subject", _START + program + _END, *arguments, own_session=own_session)
    subject.remember()
    reasons = _dump(place, subject, "--ghost-limit", "10000", *_TOLD)
    return subject, reasons


def _dump(place: Path, subject: Subject, *options: str) -> list[str]:
    words = ["dump", "-t", str(subject.pid), "-D", str(place / "images"), "-v2", *options]
    outcome = ward.command(*words)
    assert outcome.status == 1, outcome.log
    assert "internal error" not in outcome.log
    assert "Traceback" not in outcome.log
    subject.check_unharmed()
    assert not os.listdir(place / "images"), "nothing is written"
    return errors_of(outcome.log)


def _compare(reasons: list[str], expected: list[str]) -> None:
    for pattern in expected:
        found = [reason for reason in reasons if re.search(pattern, reason)]
        assert len(found) == 1, f"{len(found)} reasons match {pattern!r}:\n" + "\n".join(reasons)
    assert len(reasons) == len(expected), "\n".join(reasons)
    for reason in reasons:
        assert re.match(r"task \d+: .* \([^()]+\)$", reason), f"no task, or no remedy: {reason}"


def _many(place: Path) -> str:
    theirs, ours = socket.socketpair()
    theirs.set_inheritable(True)
    subject, reasons = _refused(place, _MANY, str(theirs.fileno()), own_session=False)
    theirs.close()
    ours.close()
    root, child = (rf"task {pid}: .*" for pid in subject.pids)
    descriptor = rf"{root}descriptor \d+ \(.*\): .*"
    hidden = "hidden/file: another mount hides it.*unmount"
    _compare(
        reasons,
        [
            f"{root}not the leader of its session .*--shell-job",
            f"{descriptor}an io_uring instance",
            f"{descriptor}a userfaultfd",
            f"{descriptor}a perf event",
            f"{descriptor}a BPF map of the kind LRU hash",
            f"{descriptor}TCP/IP can't",
            f"{descriptor}MPTCP",
            f"{descriptor}family packet",
            f"{descriptor}connected to unix socket .* not in the tree",
            f"{descriptor}POSIX lock .*--file-locks",
            f"{descriptor}this name is deleted.*--link-remap",
            f"{descriptor}20000 bytes of data.*--ghost-limit",
            f"{descriptor}{hidden}",
            f"{root}without a descriptor: .*{hidden}",
            f"{child}without a descriptor: .*{hidden}",
            f"{root}mapping .*System V",
            f"{child}mapping .*System V",
            f"{root}SIGTRAP pending",
        ],
    )
    subject.end()
    return ""


def _namespaces(place: Path) -> str:
    subject, reasons = _refused(place, _NAMESPACES)
    children = subject.pids[1:]
    with open(f"/proc/{children[0]}/task/{children[0]}/children") as file:
        (inner,) = map(int, file.read().split())
    several = ("mnt", "cgroup", "uts", "ipc", "net")
    owners = [(pid, name) for pid in (children[0], inner) for name in several]
    owners += [(inner, "time"), (children[1], "user"), (children[2], "pid")]
    expected = [rf"task {pid}: has its own {name} namespace.* \(start" for pid, name in owners]
    for pattern in expected:
        assert any(re.match(pattern, reason) for reason in reasons), f"{pattern}\n" + "\n".join(reasons)
    subject.end()
    ward.end([inner])
    return ""


def _traced(place: Path) -> str:
    """Every traced thread is named: one of the root, one of a child."""
    from engine.kernel import ptrace

    program = "threading.Thread(target=forever, daemon=True).start()\nif os.fork() == 0: forever()"
    (place / "subject").mkdir()
    (place / "images").mkdir()
    subject = Subject(place / "subject", _START + program + _END)
    root, child = subject.pids
    thread = max(int(tid) for tid in os.listdir(f"/proc/{root}/task"))
    tracees = [ptrace.Tracee.seize(tid) for tid in (thread, child)]
    subject.remember()
    tracer = f"is traced by process {os.getpid()}.*debugger"
    _compare(
        _dump(place, subject), [f"task {root}: thread {thread} {tracer}", f"task {child}: thread {child} {tracer}"]
    )
    for tracee in tracees:
        tracee.interrupt()
        tracee.wait()
        tracee.detach()
    subject.end()
    return ""


def _shared_fs(place: Path) -> str:
    subject, reasons = _refused(place, _SHARED_FS)
    _compare(reasons, [f"task {subject.pids[1]}: shares root, cwd and umask with another task"])
    subject.end()
    return ""


@pytest.mark.parametrize("work", [_many, _namespaces, _traced, _shared_fs])
def test_tree_that_cannot_be_dumped(tmp_path: Path, work: Callable[[Path], str]) -> None:
    ward.inside(tmp_path, work)


def _nobody(place: Path) -> str:
    """Pids that are nobody's to be dumped."""
    (place / "images").mkdir()
    for pid, pattern in (
        (99999, "task 99999 does not exist"),
        (0, "0"),
        (-1, "-1"),
        (1, r"task 1: this engine is in its tree \(start"),
    ):
        outcome = ward.command("dump", "-t", str(pid), "-D", str(place / "images"), "-v2")
        assert outcome.status == 1, outcome.log
        (reason,) = errors_of(outcome.log)
        assert re.search(pattern, reason), reason
        assert not os.listdir(place / "images")
    return ""


def test_nobody(tmp_path: Path) -> None:
    ward.inside(tmp_path, _nobody)


def test_kernel_thread(tmp_path: Path) -> None:
    """Outside of the ward, where there are none. In a container there are none either."""
    threads = [int(pid) for pid in os.listdir("/proc") if pid.isdecimal() and _is_kernel_thread(int(pid))]
    if not threads:
        pytest.skip("no thread of the kernel is to be seen from this pid namespace")
    (tmp_path / "images").mkdir()
    words = ["dump", "-t", str(min(threads)), "-D", str(tmp_path / "images"), "-v2"]
    outcome = ward.command(*words, watched=False)
    assert outcome.status == 1
    (reason,) = errors_of(outcome.log)
    assert re.match(rf"task {min(threads)}: is a thread of the kernel.*\(name a process\)", reason), reason


def _is_kernel_thread(pid: int) -> bool:
    try:
        return bool(read_stat(pid).flags & 0x200000)
    except (FileNotFoundError, ProcessLookupError):
        return False
