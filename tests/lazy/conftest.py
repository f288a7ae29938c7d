"""A program that is restored lazily, and what does that."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.kernel.libc import NR, syscall
from tests.lazy import program
from tests.waiting import reap, wait_until
from zdtm.harness import rpc
from zdtm.harness.init import descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ENGINE = [sys.executable, "-m", "engine"]
_PR_SET_CHILD_SUBREAPER = 36
_CONNECT_SECONDS = 20


class Lazy:
    """A directory with a program, its images, and the daemon that brings its pages.

    pid     of the program, there and here
    daemon  the lazy-pages process, once it has been started
    source  the dump that keeps the tree, if it is such a one
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self.images = place / "images"
        self.images.mkdir()
        self.pid = 0
        self.daemon: subprocess.Popen[bytes]
        self.daemon_pid = 0
        self.source: subprocess.Popen[bytes]
        self.port = 0
        self._processes: list[subprocess.Popen[bytes]] = []
        self._enter: list[str] = []
        syscall(NR["prctl"], _PR_SET_CHILD_SUBREAPER, 1)

    def start(self, act: str, mebibytes: int = 16) -> None:
        """Start the program and wait until it is ready."""
        with open(self.place / "said", "w") as output:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", program.__file__, str(mebibytes), act],
                cwd=self.place, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        self._processes.append(process)
        self.pid = process.pid
        wait_until((self.place / "ready").exists, "the program is ready", self.said)

    def said(self) -> str:
        return (self.place / "said").read_text()

    def log(self, verb: str) -> str:
        return (self.images / f"{verb}.log").read_text()

    def words(self, verb: str, *options: str) -> list[str]:
        return [*ENGINE, verb, "-D", str(self.images), "-v4", "-o", f"{verb}.log", *options]

    def run(self, verb: str, *options: str) -> int:
        return subprocess.run([*self._enter, *self.words(verb, *options)], check=False, timeout=60).returncode

    def go_elsewhere(self) -> None:
        """From now on everything is done in another pid namespace, where the program's pid is free although the program
        is still there. It ends with its init."""
        words = ["unshare", "--pid", "--mount-proc", "--fork", "--kill-child", "sleep", "1000"]
        outside = subprocess.Popen(words)
        self._processes.append(outside)
        wait_until(lambda: descendants(outside.pid)[1:], "the other namespace has an init")
        self._enter = ["nsenter", "-t", str(descendants(outside.pid)[1]), "-p", "-m"]

    def come_home(self) -> None:
        """Do things where the program was started, again."""
        self._enter = []

    def is_elsewhere(self) -> bool:
        """Whether the program runs in the other namespace. /proc does not tell its words before their page has come."""
        for pid in descendants(int(self._enter[2])):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                if f"NSpid:\t{pid}\t{self.pid}\n" in status and "State:\tZ" not in status:
                    return True
        return False

    def hand_over(self, act: str) -> None:
        """Dump lazily and restore elsewhere. The program runs there, and the daemon stands still."""
        self.start(act)
        self.dump_lazily()
        self.go_elsewhere()
        self.serve("--page-server", *self.where())
        self.restore_held()

    def kill(self, pid: int, number: int) -> None:
        """pid: in the namespace that is used now."""
        subprocess.run([*self._enter, "kill", f"-{number}", str(pid)], check=True)

    def dump(self) -> None:
        """The program is gone afterwards."""
        assert self.run("dump", "-t", str(self.pid)) == 0, self.log("dump")
        self._processes[0].wait()

    def dump_lazily(self, *options: str) -> None:
        """Start a dump that keeps the tree, and wait until its pages are to be had at self.port."""
        self.port = 0
        self.source = self._await_ready("dump", "-t", str(self.pid), "--lazy-pages", *self.where(), *options)
        found = re.search(r"its pages are to be had at 127\.0\.0\.1 port (\d+)", self.log("dump"))
        assert found, self.log("dump")
        self.port = int(found[1])

    def where(self) -> list[str]:
        """Options that name the socket between the dump and the daemon."""
        return ["--address", "127.0.0.1", "--port", str(self.port)]

    def _await_ready(self, verb: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a server and wait until it says that it can be connected to."""
        read_end, write_end = os.pipe()
        words = [*self._enter, *self.words(verb, "--status-fd", str(write_end), *options)]
        server = subprocess.Popen(words, pass_fds=[write_end])
        self._processes.append(server)
        os.close(write_end)
        with open(read_end, "rb") as ready:
            assert ready.read(1) == b"\0", self.log(verb)
        return server

    def serve(self, *options: str) -> None:
        """Start the daemon and wait until a restore can come."""
        self.daemon = self._await_ready("lazy-pages", "--pidfile", "pidfile", *options)
        self.daemon_pid = int((self.images / "pidfile").read_text())

    def connected(self) -> socket.socket:
        """To the daemon."""
        client = socket.socket(socket.AF_UNIX)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("qq", _CONNECT_SECONDS, 0))
        rpc.connect(client, str(self.images / "lazy-pages.socket"))
        return client

    def restore(self, *options: str) -> None:
        assert self.run("restore", "-d", "--lazy-pages", *options) == 0, self.log("restore")

    def restore_held(self) -> None:
        """Restore, and have the daemon stopped before the first task runs. Hardly any page has come then."""
        script = self.place / "hold.sh"
        stop = f'[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ] || kill -STOP {self.daemon_pid}'
        script.write_text(f"#!/bin/sh\n{stop}\n")
        script.chmod(0o755)
        self.restore("--action-script", str(script))

    def act(self) -> None:
        self.kill(self.pid, signal.SIGUSR1)

    def go_on(self) -> None:
        """Let a daemon that is stopped work. nsenter(1) stops with what it runs."""
        self.daemon.send_signal(signal.SIGCONT)
        self.kill(self.daemon_pid, signal.SIGCONT)

    def step_until(self, true: Callable[[], bool]) -> None:
        """Let the daemon that is stopped do no more than it takes for something to become true."""

        def step() -> bool:
            for number in (signal.SIGCONT, signal.SIGSTOP):
                os.kill(self.daemon_pid, number)
            wait_until(self._daemon_stands, "the daemon stands still")
            return true()

        wait_until(step, "the daemon has done enough")

    def _daemon_stands(self) -> bool:
        status = Path(f"/proc/{self.daemon_pid}/status").read_text()
        return "State:\tT" in status or "State:\tZ" in status

    def check_result(self) -> None:
        result = self.place / "result"
        wait_until(result.exists, "the act has ended", self.said)
        assert result.read_text() == "right", self.said()

    def check_served(self) -> None:
        """The daemon has brought all pages and ended, with its guard."""
        assert self.daemon.wait(30) == 0, self.log("lazy-pages")

    def has_ended(self) -> bool:
        """Whether the program that was started has been killed."""
        return self._processes[0].wait(30) == -signal.SIGKILL

    def is_gone(self) -> bool:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-self.pid, os.WNOHANG)[0]:
                continue
        return not os.path.exists(f"/proc/{self.pid}")

    def end_restored(self) -> None:
        """Kill what has been restored, and the daemon. The images can be restored once more."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.daemon.kill()
        self.daemon.wait()
        (self.images / "pidfile").unlink()
        wait_until(self.is_gone, "the restored tree has gone")

    def end(self) -> None:
        for process in reversed(self._processes[1:]):
            process.kill()
            process.wait()
        if self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._processes[0].wait()
            wait_until(self.is_gone, "the program has gone")
        reap()


@pytest.fixture
def lazy(tmp_path: Path) -> Iterator[Lazy]:
    running = Lazy(tmp_path)
    yield running
    running.end()
