"""Dumps of a real process whose pages go to a page server, to one that breaks down, and to one that stands still."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import subjects
from tests.increment.subject import content
from tests.transport.conftest import ENGINE, PATIENCE, end, leading_to, serve, start_dump, state_of
from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.increment.subject import Subject


def test_a_chain_of_pre_dumps(subject: Subject, tmp_path: Path) -> None:
    """What arrives is what a plain dump of the moment has, and only what had changed was sent."""
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    for number, (verb, commands) in enumerate([("pre-dump", []), ("pre-dump", ["write 3 9"]), ("dump", ["drop 4"])]):
        for command in commands:
            subject.do(command)
        parent = [f"--prev-images-dir=../{number - 1}"] if number else []
        server, options = serve(there / str(number), *parent)
        more = ["--leave-running"] if verb == "dump" else []
        dump = start_dump(verb, subject.process.pid, here / str(number), "--track-mem", *options, *parent, *more)
        assert end(dump) == 0, (here / str(number) / "log").read_text()
        assert end(server) == 0
        assert not [name for name in os.listdir(here / str(number)) if name.startswith("page")]
    assert end(start_dump("dump", subject.process.pid, tmp_path / "plain", "--leave-running")) == 0
    for pid in subject.pids():
        assert content(there / "2", pid) == content(tmp_path / "plain", pid)
    sizes = [sum(path.stat().st_size for path in (there / name).glob("pages-*")) for name in "012"]
    assert max(sizes[1:]) < sizes[0] / 2, sizes


class _Breakdown:
    """A page server that takes so many bytes and then does what `then` does."""

    def __init__(self, size: int) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        self._size = size
        self.options = leading_to(self._listener.getsockname()[1])

    def take(self) -> socket.socket:
        with self._listener:
            self._listener.settimeout(PATIENCE)
            connection, _ = self._listener.accept()
        connection.settimeout(PATIENCE)
        connection.sendall(bytes(1))
        left = self._size
        while left:
            left -= len(connection.recv(min(left, 1 << 16)))
        return connection


@pytest.mark.parametrize("size", [1, 32, 40, 64 + 4096 * 3, 1 << 20])
def test_a_server_that_dies(subject: Subject, tmp_path: Path, size: int) -> None:
    """SIGPIPE, above all, does not reach the task."""
    subject.do("grow")
    before = state_of(subject.process.pid)
    server = _Breakdown(size)
    dump = start_dump("dump", subject.process.pid, tmp_path / "images", *server.options)
    server.take().close()
    assert end(dump) == 1
    log = (tmp_path / "images/log").read_text()
    where = server.options[-1]
    assert re.search(rf"Error .*the page server at 127\.0\.0\.1 (port {where} )?.*(has failed|has ended)", log), log
    assert os.listdir(tmp_path / "images") == ["log"]
    assert state_of(subject.process.pid) == before
    subject.do("write 1 5")


def test_an_engine_that_dies_while_pages_are_sent(tmp_path: Path) -> None:
    """The server takes nothing more, the engine waits for it, and the task in which it waits comes home by itself."""
    server = _Breakdown(200)
    with subjects.running(subjects.memory(32)) as pid:
        before = state_of(pid)
        dump = start_dump("dump", pid, tmp_path / "images", *server.options)
        with server.take():
            worker = _worker_of(dump.pid)
            wait_until(lambda: "poll" in Path(f"/proc/{worker}/wchan").read_text(), "the engine waits for the server")
            assert "socket:" in "".join(os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir())
            os.kill(dump.pid, signal.SIGKILL)
            end(dump)
            wait_until(lambda: state_of(pid) == before, "the task is as it was")


def _worker_of(pid: int) -> int:
    """The process that does the work of a dump."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_until(children.read_text, "the worker is there")
    return int(children.read_text().split()[0])


def test_a_server_that_is_killed(subject: Subject, tmp_path: Path) -> None:
    server, options = serve(tmp_path / "there")
    server.kill()
    end(server)
    before = state_of(subject.process.pid)
    assert end(start_dump("dump", subject.process.pid, tmp_path / "images", *options)) == 1
    assert "can't be reached: Connection refused" in (tmp_path / "images/log").read_text()
    assert state_of(subject.process.pid) == before


def test_a_socket_that_is_given(subject: Subject, tmp_path: Path) -> None:
    """--ps-socket, on both sides."""
    ours, its = socket.socketpair()
    (tmp_path / "there").mkdir()
    with ours, its:
        words = ["page-server", "-D", str(tmp_path / "there"), "--ps-socket", str(its.fileno())]
        server = subprocess.Popen([*ENGINE, *words], pass_fds=[its.fileno()], text=True)
        (tmp_path / "here").mkdir()
        words = ["dump", "-t", str(subject.process.pid), "-D", str(tmp_path / "here"), "-R", "--page-server"]
        subprocess.run([*ENGINE, *words, "--ps-socket", str(ours.fileno())], pass_fds=[ours.fileno()], check=True)
        assert end(server) == 0
    assert end(start_dump("dump", subject.process.pid, tmp_path / "plain", "-R")) == 0
    for pid in subject.pids():
        assert content(tmp_path / "there", pid) == content(tmp_path / "plain", pid)


def test_encrypted(subject: Subject, tmp_path: Path) -> None:
    keys = Path(__file__).parent / "certificates"
    tls = ["--tls", "--tls-cacert", str(keys / "ca.pem"), "--tls-cert", str(keys / "good.pem")]
    tls += ["--tls-key", str(keys / "good.key")]
    server, options = serve(tmp_path / "there", *tls)
    assert end(start_dump("dump", subject.process.pid, tmp_path / "here", "-R", *options, *tls)) == 0
    assert end(server) == 0
    assert end(start_dump("dump", subject.process.pid, tmp_path / "plain", "-R")) == 0
    for pid in subject.pids():
        assert content(tmp_path / "there", pid) == content(tmp_path / "plain", pid)
    server, options = serve(tmp_path / "again", *tls)
    assert end(start_dump("dump", subject.process.pid, tmp_path / "open", *options)) == 1
    assert end(server) == 1
    assert "we come to no agreement by TLS" in (tmp_path / "again/page-server.log").read_text()
