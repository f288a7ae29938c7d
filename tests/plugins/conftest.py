"""A tree with objects that the engine does not know, and a place for plugins that do."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from typing import TYPE_CHECKING

import pytest

from tests.hostile import ward
from tests.hostile.subject import Subject
from tests.hostile.trial import errors_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PERF = r"""
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
attributes = ctypes.create_string_buffer(struct.pack("IIQ", 1, 120, 9), 120)
perf = libc.syscall(298 if os.uname().machine == "x86_64" else 241, attributes, 0, -1, -1, 0)
assert perf >= 0
"""
"""A perf event."""
FOREVER = """
os.mkdir("ready")
while True: time.sleep(0.001)
"""
OUTSIDE = r"""
import mmap, socket, threading
device = os.open(sys.argv[2], os.O_RDWR)
mapped = mmap.mmap(device, 4096)
os.close(device)
peer = socket.socket(fileno=int(sys.argv[1]))
def echo():
    while True: peer.send(peer.recv(64).upper() + b" " + mapped[:4])
threading.Thread(target=echo, daemon=True).start()
"""
"""A mapping of a block device, and a unix socket with a peer outside that gets echoes."""


class Place:
    """plugins: the directory of the plugins; calls: where they note what they are called for."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plugins = directory / "plugins"
        self.calls = directory / "calls"
        self.images = directory / "images"
        for made in (self.plugins, self.images, directory / "subject"):
            made.mkdir(mode=0o755)
        self.subject: Subject
        self.log = ""
        self._dumped_with: tuple[str, ...] = ()

    def start(self, program: str, *arguments: str, keep: tuple[int, ...] = ()) -> Subject:
        self.subject = Subject(self.directory / "subject", program + FOREVER, *arguments, keep=keep)
        return self.subject

    def plugin(self, name: str, source: str) -> None:
        """Write a plugin. It can note calls by note(...)."""
        calls = str(self.calls)
        head = f"import os\ndef note(*words):\n    with open({calls!r}, 'a') as file: print(*words, file=file)\n"
        (self.plugins / f"{name}.py").write_text(head + source)

    def dump(self, *options: str) -> int | None:
        """The status; its log is in self.log."""
        self._dumped_with = options
        return self.run("dump", "-t", str(self.subject.pid), *options)

    def restore(self, *options: str) -> int | None:
        if "--leave-running" not in self._dumped_with:
            self.subject.process.wait()
        return self.run("restore", "-d", *options)

    def run(self, verb: str, *words: str) -> int | None:
        libdir = () if "--libdir" in words else ("--libdir", str(self.plugins))
        outcome = ward.command(verb, "-D", str(self.images), "-v4", *words, *libdir, watched=False)
        self.log = outcome.log
        return outcome.status

    def refused(self, *options: str) -> list[str]:
        """A dump that must fail and leave the tree as it is: the errors."""
        self.subject.remember()
        assert self.dump(*options) == 1, self.log
        self.subject.check_unharmed()
        return errors_of(self.log)

    def noted(self) -> list[str]:
        """What plugins have noted, which is forgotten then."""
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return lines

    def links(self) -> list[str]:
        """What the descriptors of the root lead to."""
        directory = f"/proc/{self.subject.pid}/fd"
        return [os.readlink(f"{directory}/{number}") for number in os.listdir(directory)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    tmp_path.chmod(0o755)
    made = Place(tmp_path)
    yield made
    if hasattr(made, "subject"):
        made.subject.end()
        ward.end([made.subject.pid])


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """A block device whose first bytes are `disk`."""
    get_free, set_fd, clear_fd = 0x4C82, 0x4C00, 0x4C01
    backing = tmp_path / "disk"
    backing.write_bytes(b"disk" * 2048)
    with contextlib.ExitStack() as files:
        control = files.enter_context(open("/dev/loop-control", "rb"))
        while True:
            path = f"/dev/loop{fcntl.ioctl(control, get_free)}"
            device = files.enter_context(open(path, "r+b"))
            try:
                fcntl.ioctl(device, set_fd, files.enter_context(open(backing, "r+b")).fileno())
                break
            except OSError:
                continue  # somebody else has taken it
        yield path
        fcntl.ioctl(device, clear_fd)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "server"))
        listener.listen()
        listener.settimeout(10)
        yield listener
