"""The sandbox of one item: namespaces of its own, an init that does the work, a watchdog that ends it.

    pytest worker
      watchdog        forked; outside the new pid namespace, so its SIGKILL cannot be missed
        item init     forked; pid 1 of the namespaces, runs one mode (modes.py), reaps, writes the result

Nothing is executed anew: a fork of the worker costs a few milliseconds, a new interpreter several dozen.

Own namespaces, so that items can run side by side and leftovers can be told apart: pid (a restored task needs its
old number, and the next worker's tasks must not have it), mount (a fresh /proc and /dev/pts, whose numbers nobody else
uses, and mounts of the engine stay inside),
net (ports, abstract names, firewall tables), ipc (keys), uts. The engine and the program share all of them, which
makes this the host flavour: the engine has no namespace to dump.

When the worker dies, its watchdog and with it the item dies by the parent death signal; when pid 1 of a namespace
dies, the kernel kills everybody in it.
"""

from __future__ import annotations

import ctypes
import fcntl
import gc
import json
import os
import signal
import socket
import struct
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from zdtm.harness.init import died_how

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
CLONE_NEWPID, CLONE_NEWNET = 0x20000000, 0x40000000
MS_REC, MS_PRIVATE, MNT_DETACH = 0x4000, 0x40000, 2
PR_SET_PDEATHSIG = 1
SIOCSIFFLAGS, IFF_UP = 0x8914, 1

RESULT = "result.json"

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass
class Result:
    """What came of an item."""

    outcome: str
    """ "passed", "failed" or "skipped" """
    judge: str = ""
    """who said no: program, oracle, host, engine (refused or crashed), harness"""
    text: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """step -> how long it took"""


def run(work: Callable[[], Result], item_dir: Path, deadline: float) -> Result:
    """Run work() as pid 1 of new namespaces, with item_dir as the place for its log. deadline: in seconds."""
    worker = os.getpid()
    with warnings.catch_warnings():
        # xdist's worker has a thread that reads from a pipe; neither fork ever touches what that thread owns.
        warnings.simplefilter("ignore", DeprecationWarning)
        watchdog = os.fork()
    if watchdog == 0:
        _end_with(lambda: _watch(worker, work, item_dir, deadline), item_dir)
    try:
        os.waitpid(watchdog, 0)
    except BaseException:
        os.kill(watchdog, signal.SIGKILL)
        os.waitpid(watchdog, 0)
        raise
    return result_of(item_dir)


def _end_with(body: Callable[[], None], item_dir: Path) -> None:
    """Run body in a forked process, which never returns into pytest."""
    status = 1
    try:
        body()
        status = 0
    except BaseException:
        _write_result(item_dir, Result("failed", "harness", traceback.format_exc()))
    finally:
        os._exit(status)


def _watch(worker: int, work: Callable[[], Result], item_dir: Path, deadline: float) -> None:
    _die_with_parent(worker)
    os.setsid()
    _cut_off(item_dir)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    init = _start_init(work, item_dir)
    end = time.monotonic() + deadline
    while (ended := os.waitpid(init, os.WNOHANG)) == (0, 0):
        if time.monotonic() > end:
            os.kill(init, signal.SIGKILL)
            os.waitpid(init, 0)
            _write_result(item_dir, Result("failed", "harness", f"killed: not done after {deadline:.0f} s"))
            return
        signal.sigtimedwait({signal.SIGCHLD}, 1)
    _note_death(ended[1], item_dir)


def start_elsewhere(work: Callable[[], Result], directory: Path) -> int:
    """From pid 1 of a sandbox: run work() as pid 1 of another one, as if on another machine that has the same files.
    Returns the pid of a child that ends when it is done and its sandbox has gone; result_of() has what came of it."""
    keeper = os.fork()
    if keeper == 0:
        _end_with(lambda: _note_death(os.waitpid(_start_init(work, directory), 0)[1], directory), directory)
    return keeper


def _note_death(status: int, item_dir: Path) -> None:
    """The init has ended. If it left no result, how it died is one. status: as of wait(2)"""
    if not (item_dir / RESULT).exists():
        _write_result(item_dir, Result("failed", "harness", f"the item's init has left no result: {died_how(status)}"))


def _start_init(work: Callable[[], Result], directory: Path) -> int:
    """Make namespaces and run work() in their pid 1, which dies with this process. Returns its pid."""
    _checked(_libc.unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS), "unshare")
    watchdog = os.getpid()
    init = os.fork()
    if init == 0:
        _end_with(lambda: _be_init(watchdog, work, directory), directory)
    return init


def _be_init(watchdog: int, work: Callable[[], Result], item_dir: Path) -> None:
    # The watchdog is in another pid namespace, where its number is 0 to us.
    _die_with_parent(0 if os.getpid() == 1 else watchdog)
    _checked(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None), "make the mounts private")
    _libc.umount2(b"/proc", MNT_DETACH)
    _checked(_libc.mount(b"proc", b"/proc", b"proc", 0, None), "mount /proc")
    if os.path.isdir("/dev/pts"):
        _checked(_libc.mount(b"devpts", b"/dev/pts", b"devpts", 0, b"newinstance,ptmxmode=0666"), "mount /dev/pts")
    _loopback_up()
    os.umask(0o022)
    _write_result(item_dir, work())


def _die_with_parent(parent: int) -> None:
    _checked(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")
    if os.getppid() != parent:
        os._exit(1)


def _cut_off(item_dir: Path) -> None:
    """Keep none of pytest's descriptors; objects that think they own one must not be finalized any more."""
    gc.disable()
    gc.freeze()
    null = os.open(os.devnull, os.O_RDONLY)
    log = os.open(item_dir / "harness.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def _checked(result: int, what: str) -> None:
    if result < 0:
        errno = ctypes.get_errno()
        raise OSError(errno, f"{what}: {os.strerror(errno)}")


def _write_result(item_dir: Path, result: Result) -> None:
    new = item_dir / f"{RESULT}.new"
    new.write_text(json.dumps(asdict(result)))
    new.rename(item_dir / RESULT)


def result_of(item_dir: Path) -> Result:
    """What came of work() in a sandbox that has gone."""
    path = item_dir / RESULT
    if not path.exists():
        return Result("failed", "harness", "the item's watchdog has left no result")
    return Result(**json.loads(path.read_text()))
