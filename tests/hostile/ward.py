"""Where hostile images are tried: namespaces of their own, in which nothing but one directory can be written to.

Pid 1 of the ward does the trials. An engine that it starts is a fork of it: a trial costs milliseconds. What an engine
leaves behind becomes pid 1's child, so that nothing gets lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import select
import signal
import stat
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest

import engine.cli
from engine import log
from engine.kernel.libc import NR, syscall
from zdtm.harness.init import others
from zdtm.harness.sandbox import Result, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MEMORY = 1 << 30
_PATIENCE = 20
_LONGEST_LOG = 1 << 20
_DYING = 1
MS_RDONLY, _MS_REMOUNT, _MS_BIND = 1, 32, 0x1000


def inside(tmp_path: Path, work: Callable[[Path], str], deadline: float = 300) -> None:
    """Do work(place) as pid 1 of a ward. place: an empty tmpfs, the one place to write to. Fails with what it raises,
    and with the text that it returns."""

    def be_init() -> Result:
        place = tmp_path / "ward"
        place.mkdir()
        mount(str(tmp_path), tmp_path, "", _MS_BIND)
        mount("tmpfs", place, "tmpfs", 0)
        mount("none", "/", "", _MS_REMOUNT | _MS_BIND | MS_RDONLY)
        return Result("passed", text=work(place))

    result = run(be_init, tmp_path, deadline)
    if result.outcome != "passed" or result.text:
        pytest.fail(result.text, pytrace=False)


def mount(source: str, target: object, kind: str, flags: int, options: str = "") -> None:
    """mount(2)."""
    words = (_c_string(word) for word in (source, str(target), kind))
    syscall(NR["mount"], *words, flags, _c_string(options))


def unmount(target: object) -> None:
    """umount2(2)."""
    syscall(NR["umount2"], _c_string(str(target)), 0)


def _c_string(text: str) -> bytes:
    return os.fsencode(text) + b"\0"


@contextlib.contextmanager
def limited(limit: int, value: int) -> Iterator[None]:
    """Have engines run with a resource limit of this value."""
    _limits[limit] = value
    try:
        yield
    finally:
        del _limits[limit]


_limits: dict[int, int] = {}


class Outcome(NamedTuple):
    """What came of a command. status: None when it had to be ended; left: processes that are there now."""

    status: int | None
    log: str
    left: list[int]
    seconds: float


def warm_up() -> None:
    """Load what every engine would have to load."""
    import engine.dump
    import engine.restore  # noqa: F401
    from engine.images.magic import KINDS
    from engine.images.schema import columns, message

    for kind in KINDS.values():
        for name in kind.messages:
            message(name)()
    columns("pagemap_entry")()
    syscall(NR["getpid"])


def command(*words: str, watched: bool = True) -> Outcome:
    """Run `crucible WORDS`. Memory is limited.

    watched: look for processes that are left. Only in a ward, where there are no others
    """
    read_end, write_end = os.pipe()
    fcntl.fcntl(write_end, fcntl.F_SETPIPE_SZ, _LONGEST_LOG)
    os.set_blocking(write_end, False)
    start = time.monotonic()
    before = set(others()) if watched else set()
    child = os.fork()
    if not child:
        status = 70
        with contextlib.suppress(BaseException):
            _be_engine(write_end)
            status = engine.cli.main(["crucible", *words])
        os._exit(status)
    ended_with = _await(child)
    os.close(write_end)
    with open(read_end, "rb") as output:
        os.set_blocking(read_end, False)
        text = (output.read() or b"").decode(errors="replace")
    if ended_with and watched:
        _settle(before)
    return Outcome(ended_with, text, _others_but(before) if watched else [], time.monotonic() - start)


def _be_engine(output: int) -> None:
    log.setup(log.WARN)
    for number in (1, 2):
        os.dup2(output, number)
    os.closerange(3, 1024)
    for limit, value in {resource.RLIMIT_AS: _MEMORY, **_limits}.items():
        resource.setrlimit(limit, (value, resource.getrlimit(limit)[1]))


def _await(child: int) -> int | None:
    """The exit status of a child, or None when it takes too long."""
    pidfd = os.pidfd_open(child)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        done = poll.poll(_PATIENCE * 1000)
        if not done:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        return os.waitstatus_to_exitcode(status) if done else None
    finally:
        os.close(pidfd)


def reap() -> None:
    """Wait for all children that have died."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue


def _settle(before: set[int]) -> None:
    """Wait a moment for those who are dying of an engine's death."""
    deadline = time.monotonic() + _DYING
    while _others_but(before) and time.monotonic() < deadline:
        time.sleep(0.0005)


def _others_but(before: set[int]) -> list[int]:
    """The processes that are new and no zombies of ours."""
    reap()
    return [pid for pid in others() if pid not in before]


def end(pids: list[int]) -> None:
    """Kill processes and wait until nothing is left of them."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _PATIENCE
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        reap()
        assert time.monotonic() < deadline, f"{pids} can't be killed"
        time.sleep(0.0005)


class Files:
    """All there is below a directory, to be compared with and to be put back. Small files are expected."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.before = self.look()

    def look(self) -> dict[str, tuple[int, int, bytes]]:
        """(mode, time of modification, content) by name. Fifos have no time: what goes through one changes it."""
        found = {}
        for directory, names, files in os.walk(self.root):
            for name in (*names, *files):
                path = os.path.join(directory, name)
                info = os.lstat(path)
                content = b""
                if stat.S_ISREG(info.st_mode):
                    with open(path, "rb") as file:
                        content = file.read()
                modified = 0 if stat.S_ISFIFO(info.st_mode) else info.st_mtime_ns
                found[os.path.relpath(path, self.root)] = info.st_mode, modified, content
        return found

    def difference(self) -> str:
        """What is not as it was; empty when all is."""
        now = self.look()
        names = sorted({*now, *self.before})
        return ", ".join(
            f"{name} is {'gone' if name not in now else 'new' if name not in self.before else 'changed'}"
            for name in names
            if now.get(name) != self.before.get(name)
        )

    def put_back(self) -> None:
        """Make all as it was."""
        now = self.look()
        for name in sorted(now, reverse=True):
            if now[name] == self.before.get(name):
                continue
            path = self.root / name
            if name in self.before and stat.S_ISDIR(now[name][0]):
                continue
            path.rmdir() if stat.S_ISDIR(now[name][0]) else path.unlink()
        for name in sorted(self.before):
            mode, _, content = self.before[name]
            path = self.root / name
            if not os.path.lexists(path):
                if stat.S_ISDIR(mode):
                    path.mkdir()
                elif stat.S_ISREG(mode):
                    path.write_bytes(content)
                else:
                    os.mknod(path, mode)
            os.chmod(path, stat.S_IMODE(mode))
        for name in sorted(self.before, reverse=True):
            time = self.before[name][1]
            os.utime(self.root / name, ns=(time, time))
