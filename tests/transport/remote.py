"""Image proxies and caches in tests: real ones, and caches that do what a test wants."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bench import subjects
from engine.errors import CrError
from engine.transport.frames import ImageLink, Op
from engine.transport.remote_images import SentImages
from tests.waiting import reap, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from engine.transport.frames import Frame

ENGINE = [sys.executable, "-m", "engine"]


class Daemon:
    """A proxy or a cache that runs. Its work directory has its socket, NAME.sock, and its log."""

    def __init__(self, name: str, work: Path, *options: str) -> None:
        self.socket = work / f"{name}.sock"
        self._log = work / f"{name}.log"
        self._log.unlink(missing_ok=True)
        words = [*ENGINE, name, "-W", str(work), "-v4", "-o", self._log.name, *options]
        self.process = subprocess.Popen(words)
        ready = re.compile(r"is expected at|are expected at|image proxy is ready")
        wait_until(lambda: ready.search(self.log) or self.process.poll() is not None, f"{name} is ready")
        assert self.process.poll() is None, self.log

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def port(self) -> str:
        """Of a cache."""
        match = re.search(r"are expected at \S+ port (\d+)", self.log)
        assert match, self.log
        return match[1]

    def end(self) -> None:
        """By SIGTERM, unless it has ended; nothing is left, and nothing went wrong inside."""
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        status = self.process.wait(30)
        assert "Traceback" not in self.log, self.log
        assert "internal error" not in self.log, self.log
        if status != -signal.SIGKILL:
            assert not self.socket.exists()


@contextlib.contextmanager
def cache(work: Path, *options: str) -> Iterator[Daemon]:
    daemon = Daemon("image-cache", work, "--port", "0", *options)
    try:
        yield daemon
    finally:
        daemon.end()


@contextlib.contextmanager
def proxy(work: Path, port: str, *options: str) -> Iterator[Daemon]:
    daemon = Daemon("image-proxy", work, "--port", port, *options)
    try:
        yield daemon
    finally:
        daemon.end()


@contextlib.contextmanager
def both(work: Path, *options: str) -> Iterator[tuple[Daemon, Daemon]]:
    """A proxy and its cache. options: of the cache"""
    with cache(work, *options) as holder, proxy(work, holder.port) as sender:
        yield sender, holder


class Outcome(NamedTuple):
    status: int
    log: str

    @property
    def errors(self) -> list[str]:
        return [line for line in self.log.splitlines() if "Error (" in line]


class Run:
    """A verb of the engine that runs, with --remote. It can't leave images in its images directory."""

    def __init__(self, work: Path, verb: str, id: str, *options: str) -> None:
        self._images = work / "no-images"
        self._images.mkdir(exist_ok=True)
        self._log = work / f"{verb}-{id.replace('/', '-')}.log"
        words = [verb, "--remote", "--snapshot-id", id, "-D", str(self._images), "-W", str(work)]
        self.process = subprocess.Popen([*ENGINE, *words, "-v4", "-o", self._log.name, *options])

    def outcome(self) -> Outcome:
        status = self.process.wait(60)
        assert not os.listdir(self._images)
        return Outcome(status, self._log.read_text() if self._log.exists() else "")


def run(work: Path, verb: str, id: str, *options: str) -> Outcome:
    return Run(work, verb, id, *options).outcome()


def done(work: Path, verb: str, id: str, *options: str) -> str:
    """Must work. Returns the log."""
    outcome = run(work, verb, id, *options)
    assert outcome.status == 0, outcome.log
    return outcome.log


def restore(work: Path, id: str, *options: str) -> None:
    reap()  # what a dump has killed, so that its pids are free
    done(work, "restore", id, "-d", *options)


def connected(daemon: Daemon) -> ImageLink:
    """A dump's connection to a proxy, or a restore's to a cache."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(str(daemon.socket))
    link = ImageLink(sock, daemon.socket.stem, takes_fds=True)
    link.greet()
    return link


def write(images: SentImages, kind: str = "SECCOMP", content: bytes = b"content") -> None:
    with images.writer(kind) as writer:
        writer.put_raw(content)


def stored(daemon: Daemon, id: str) -> SentImages:
    """A snapshot of which everything has been sent."""
    images = SentImages(connected(daemon), id)
    images.renew()
    write(images)
    images.settle()
    return images


@contextlib.contextmanager
def fake_cache(serve: Callable[[ImageLink, Frame], bool]) -> Iterator[str]:
    """The port of a cache that answers as it should, but asks `serve` about each frame first, and when that returns
    True, does nothing itself. A connection ends when `serve` raises EOFError."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        threading.Thread(target=_accept, args=(door, serve), daemon=True).start()
        yield str(door.getsockname()[1])
        door.shutdown(socket.SHUT_RDWR)


def _accept(door: socket.socket, serve: Callable[[ImageLink, Frame], bool]) -> None:
    with contextlib.suppress(OSError):
        while True:
            sock, _ = door.accept()
            threading.Thread(target=_answer, args=(ImageLink(sock, "the proxy"), serve), daemon=True).start()


def _answer(link: ImageLink, serve: Callable[[ImageLink, Frame], bool]) -> None:
    with contextlib.closing(link), contextlib.suppress(EOFError, CrError):
        while frame := link.hear(0):
            if not serve(link, frame) and frame.op in (Op.HELLO, Op.BEGIN, Op.SYNC, Op.COMMIT, Op.DISCARD):
                link.say(Op.OK)


@contextlib.contextmanager
def subject(mebibytes: int = 1) -> Iterator[int]:
    """A process that sleeps with so much memory."""
    with subjects.running(subjects.memory(mebibytes)) as pid:
        stat = Path(f"/proc/{pid}/stat")
        wait_until(lambda: ") S " in stat.read_text(), "it sleeps")
        yield pid


@contextlib.contextmanager
def unwaited_subject(mebibytes: int = 1) -> Iterator[int]:
    """A subject whose pid is free the moment it has died, for its parent ignores SIGCHLD, and may then be somebody
    else's."""
    told, tells = os.pipe()
    until_end, end = os.pipe()
    with subjects.running(["sleep", "0"]):
        pass  # from here on orphans are ours
    parent = os.fork()
    if not parent:
        os.close(end)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        with subject(mebibytes) as pid:
            os.write(tells, str(pid).encode())
            os.read(until_end, 1)
        os._exit(0)
    os.close(until_end)
    try:
        pid = int(os.read(told, 20))
        yield pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        subjects.await_end(pid)
    finally:
        for fd in told, tells, end:
            os.close(fd)
        os.waitpid(parent, 0)


def memory_of(pid: int) -> dict[int, bytes]:
    """The data of a subject, by address. Small mappings are left out: the kernel writes to one of them, see rseq(2)."""
    found = {}
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in maps:
            span, permissions, _, _, inode, *_ = line.split()
            start, end = (int(word, 16) for word in span.split("-"))
            if permissions == "rw-p" and inode == "0" and end - start >= 1 << 20:
                memory.seek(start)
                found[start] = memory.read(end - start)
    return found
