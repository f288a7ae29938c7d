"""What tests of connections share: a page server in a thread of the test's, clients of it, a proxy and its cache."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.images.directory import ImageDir
from engine.images.pagemap import PageReader
from engine.transport.channel import Channel
from engine.transport.page_server import PageServer
from engine.transport.protocol import Command, PageMessage, destination_of
from tests.increment.subject import Subject
from tests.transport import remote

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.transport.remote import Daemon

ENGINE = [sys.executable, "-m", "engine"]
PAGE = 4096
PATIENCE = 20


class Served:
    """A page server in a thread. problem: what it raised, once it has ended."""

    def __init__(self, images: Path, auto_dedup: bool = False, patience: float = PATIENCE) -> None:
        images.mkdir(exist_ok=True)
        self.images = images
        self.client, its = socket.socketpair()
        self.client.settimeout(PATIENCE)
        self.problem: CrError | None = None
        self._channel = Channel(its, "the client", patience)
        self._thread = threading.Thread(target=self._serve, args=(auto_dedup,))
        self._thread.start()

    def _serve(self, auto_dedup: bool) -> None:
        try:
            with ImageDir(str(self.images)) as images:
                PageServer(self._channel, images, auto_dedup).serve()
        except CrError as error:
            self.problem = error
        finally:
            self._channel.close()

    def say(self, *parts: PageMessage | bytes) -> None:
        """Some may find nobody any more: a server that does not want to hear the rest ends at once, with a problem."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for part in parts:
                self.client.sendall(part.encode() if isinstance(part, PageMessage) else part)

    def close(self) -> bytes:
        """End as a client does that has said all, and return what else the server answers."""
        self.say(PageMessage(Command.CLOSE))
        return self.end()

    def end(self) -> bytes:
        """Say nothing more. What the server has answered."""
        answer = b""
        try:
            self.client.shutdown(socket.SHUT_WR)
            while part := self.client.recv(1 << 16):
                answer += part
        except OSError:
            pass  # it was faster to end
        self._thread.join()
        self.client.close()
        return answer

    def left(self) -> list[str]:
        return sorted(os.listdir(self.images))


def opening(pid: int, command: Command = Command.OPEN2, kind: str = "PAGEMAP") -> PageMessage:
    return PageMessage(command, destination=destination_of(kind, pid))


def run_of(vaddr: int, nr_pages: int, flags: int) -> PageMessage:
    return PageMessage(Command.ADD_F, flags, nr_pages, vaddr)


def stored(images: Path, id: int, kind: str = "PAGEMAP") -> dict[int, bytes]:
    """address: page, of what a restore would read."""
    found = {}
    with ImageDir(str(images)) as directory, PageReader(directory, id, kind) as reader:
        for vaddr, nr_pages, fd, offset in reader.segments():
            for number in range(nr_pages):
                found[vaddr + number * PAGE] = os.pread(fd, PAGE, offset + number * PAGE)
    return found


@pytest.fixture
def served(tmp_path: Path) -> Served:
    return Served(tmp_path / "images")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Daemon, Daemon]]:
    """An image proxy and its cache."""
    with remote.both(tmp_path) as pair:
        yield pair


@pytest.fixture
def subject() -> Iterator[Subject]:
    running = Subject()
    yield running
    running.end()


def serve(images: Path, *options: str) -> tuple[subprocess.Popen[str], list[str]]:
    """A page server at a port of its choice, and the options that lead there."""
    images.mkdir(exist_ok=True)
    server = subprocess.Popen(
        [*ENGINE, "page-server", "-D", images, "--address", "127.0.0.1", "-v4", "-o", "page-server.log", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    said = server.stdout.readline()
    found = re.fullmatch(r"The page server listens at 127\.0\.0\.1 port (\d+)\n", said)
    assert found, said
    return server, leading_to(int(found[1]))


def leading_to(port: int) -> list[str]:
    return ["--page-server", "--address", "127.0.0.1", "--port", str(port)]


def end(server: subprocess.Popen[str]) -> int:
    with server:
        return server.wait(PATIENCE)


def start_dump(verb: str, pid: int, images: Path, *options: str) -> subprocess.Popen[str]:
    images.mkdir()
    words = [verb, "-t", str(pid), "-D", str(images), "-v4", "-o", "log", *options]
    return subprocess.Popen([*ENGINE, *words], text=True)


def state_of(pid: int) -> list[str]:
    """What must not change by a dump that fails: descriptors, mappings, signals that wait."""
    proc = Path(f"/proc/{pid}")
    signals = re.findall(r"(?:SigPnd|ShdPnd|SigBlk|TracerPid):.*", (proc / "status").read_text())
    mappings = [line.split()[0] for line in (proc / "maps").read_text().splitlines()]
    return [*sorted(os.listdir(proc / "fd")), *signals, *mappings]
