"""A service: clients of all sorts, at the same time; its socket, its end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bench import subjects
from tests.rpc.conftest import Daemon, answers, await_end, is_running
from tests.waiting import wait_until
from zdtm.harness.rpc import Client, request

if TYPE_CHECKING:
    pass

_NOBODY = 65534


def test_there_and_back(daemon: Daemon, sleeper: int, images: str) -> None:
    said = {"images_dir_fd": os.open(images, os.O_RDONLY), "notify_scripts": True, "log_level": 4}
    for _ in range(2):
        with Client.connected(daemon.address) as client:
            answer = client.ask("DUMP", {"pid": sleeper, "log_file": "dump.log", **said})
            assert answer.success, answer
            assert [step for step, _ in client.steps] == ["pre-dump", "query-ext-files", "post-dump"]
        await_end(sleeper)
        with Client.connected(daemon.address) as client:
            answer = client.ask("RESTORE", {"log_file": "restore.log", **said})
            assert answer.success, answer
            assert answer.restore.pid == sleeper
        assert is_running(sleeper)
    os.close(int(said["images_dir_fd"]))


def test_many_at_a_time(daemon: Daemon, tmp_path: Path) -> None:
    """Eight clients, all of whom are in the middle of a dump at one moment."""
    meeting = threading.Barrier(8, timeout=60)
    failures: list[str] = []

    def checkpoint(pid: int, place: Path) -> None:
        place.mkdir()

        def meet(step: str, _pid: int, _fd: int) -> bool:
            if step == "query-ext-files":
                meeting.wait()
            return True

        with Client.connected(daemon.address) as client:
            client.on_notify = meet
            answer = client.ask("DUMP", {"pid": pid, "images_dir": str(place), "notify_scripts": True})
            if not answer.success:
                failures.append(answer.cr_errmsg)

    processes = [_sleep() for _ in range(8)]
    threads = [
        threading.Thread(target=checkpoint, args=(process.pid, tmp_path / str(process.pid))) for process in processes
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [process.wait(30) for process in processes] == [-signal.SIGKILL] * 8


def _sleep(**popen: Any) -> subprocess.Popen[bytes]:
    """A process that can be dumped."""
    process = subprocess.Popen(
        ["sleep", "1000"], start_new_session=True, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, **popen,
    )  # fmt: skip
    stat = Path(f"/proc/{process.pid}/stat")
    wait_until(lambda: "(sleep) S" in stat.read_text(), "it sleeps")
    return process


def test_clients_that_vanish(daemon: Daemon, sleeper: int, images: str) -> None:
    """At once, after a request, in the middle of its steps. The service goes on and keeps nothing."""
    wait_until(lambda: len(daemon.workers()) == 1, "one worker stands by")
    before = _descriptors(daemon)
    with Client.connected(daemon.address):
        pass
    said = {"pid": sleeper, "images_dir": images, "notify_scripts": True}
    with Client.connected(daemon.address) as client:
        client.send(request("DUMP", said))
    for step in range(1, 4):
        with Client.connected(daemon.address) as client:
            client.send(request("DUMP", said))
            assert client.receive()[0].notify.script == "pre-dump"
            for _ in range(step - 1):
                client.send(request("NOTIFY", notify_success=True))
                assert client.receive()[0].notify.script
        wait_until(lambda: is_running(sleeper), "the task runs on")
    wait_until(lambda: len(daemon.workers()) == 1, "the workers have ended, one stands by")
    wait_until(lambda: _descriptors(daemon) == before, "no descriptors are kept", lambda: str(_descriptors(daemon)))
    with Client.connected(daemon.address) as client:
        assert client.ask("VERSION").success


def _descriptors(daemon: Daemon) -> list[str]:
    place = f"/proc/{daemon.process.pid}/fd"
    return sorted(os.readlink(f"{place}/{fd}").partition(":")[0] for fd in os.listdir(place))


_HALF = request("DUMP", {"images_dir": "/x"}).SerializeToString()[:-1]


@pytest.mark.parametrize(
    "packet",
    [b"\xff" * 100, b"\x08", b"\x0a\xff\xff\xff\xff\x0f", _HALF],
    ids=["rubbish", "one byte", "a length that lies", "half a message"],
)
def test_what_is_no_request_ends_the_connection(daemon: Daemon, packet: bytes) -> None:
    with Client.connected(daemon.address) as client:
        client.sock.send(packet)
        with pytest.raises(EOFError):
            client.receive()


def test_a_packet_that_is_too_large(daemon: Daemon) -> None:
    with Client.connected(daemon.address) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, 32, 8 << 20)  # SO_SNDBUFFORCE
        client.sock.send(bytes((1 << 20) + 1))
        answer = client.receive()[0]
        assert (answer.success, answer.cr_errno) == (False, 56)
        assert answer.cr_errmsg == "the request is larger than 1048576 bytes"


def test_descriptors_that_nobody_asked_for_are_closed(daemon: Daemon) -> None:
    reader, writer = os.pipe()
    with Client.connected(daemon.address) as client:
        socket.send_fds(client.sock, [request("VERSION", keep_open=True).SerializeToString()], [writer])
        os.close(writer)
        assert client.receive()[0].success
        assert os.read(reader, 1) == b"", "nobody holds the other end"
    os.close(reader)


def test_a_type_that_nobody_knows(daemon: Daemon) -> None:
    with Client.connected(daemon.address) as client:
        client.sock.send(b"\x08\x63")
        answer = client.receive()[0]
        assert (answer.type, answer.success, answer.cr_errno) == (0, False, 56)


def test_who_may_ask_for_what(daemon: Daemon, images: str) -> None:
    """Anybody for the version. Who isn't root can have no task touched, not even its own."""
    mine = _sleep(user=_NOBODY)
    asked = (
        ("VERSION", None),
        ("DUMP", {"pid": mine.pid, "images_dir": "/tmp"}),
        ("DUMP", {"images_dir": "/tmp"}),
        ("RESTORE", {"images_dir": images}),
        ("CHECK", None),
    )
    version, *others = _ask_as_nobody(daemon, *asked)
    assert version == "True 0 "
    for line in others:
        assert line.startswith("False 1 user 65534 (pid "), line
    assert len(others) == 4
    assert is_running(mine.pid)
    mine.kill()
    mine.wait()


def test_strangers_leave_room_for_others(daemon: Daemon) -> None:
    """However many of them hold connections."""
    lines = _ask_as_nobody(daemon, *[("VERSION", None)] * 10, at_once=True)
    assert sum(line.startswith("True") for line in lines) == 8
    assert sum("too many others without privileges are being served" in line for line in lines) == 2
    assert answers(daemon.address)


def _ask_as_nobody(daemon: Daemon, *asked: tuple[str, Any], at_once: bool = False) -> list[str]:
    """What another user is answered. at_once: all connections are there before the first request."""
    daemon.work.chmod(0o711)
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.chdir(daemon.work)
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
            with open(writer, "w") as output, contextlib.ExitStack() as stack:
                name = os.path.basename(daemon.address)
                opened = [stack.enter_context(Client.connected(name)) for _ in asked] if at_once else []
                for kind, options in asked:
                    client = opened.pop() if opened else stack.enter_context(Client.connected(name))
                    answer = client.ask(kind, options)
                    output.write(f"{answer.success} {answer.cr_errno} {answer.cr_errmsg}\n")
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with open(reader) as pipe:
        lines = pipe.read().splitlines()
    assert os.waitpid(pid, 0)[1] == 0
    return lines


def test_a_killed_worker_is_told_of(daemon: Daemon, sleeper: int, images: str) -> None:
    wait_until(lambda: len(daemon.workers()) == 1, "one stands by")
    [worker] = daemon.workers()

    def kill(step: str, _pid: int, _fd: int) -> bool:
        if step == "post-dump":
            os.kill(worker, signal.SIGKILL)
        return True

    with Client.connected(daemon.address) as client:
        client.on_notify = kill
        answer = client.ask("DUMP", {"pid": sleeper, "images_dir": images, "notify_scripts": True})
        assert not answer.success
        assert answer.cr_errno
        assert "was killed by SIGKILL" in answer.cr_errmsg
    wait_until(lambda: is_running(sleeper), "the task runs on")


def test_the_worker_that_stands_by_is_killed(daemon: Daemon) -> None:
    wait_until(lambda: len(daemon.workers()) == 1, "one stands by")
    os.kill(daemon.workers()[0], signal.SIGKILL)
    for _ in range(2):
        with Client.connected(daemon.address) as client:
            assert client.ask("VERSION").success


def test_a_command_takes_the_place_of_a_worker(daemon: Daemon, sleeper: int, images: str, tmp_path: Path) -> None:
    with Client.connected(daemon.address) as client:
        assert client.ask("DUMP", {"pid": sleeper, "images_dir": images}).success
    await_end(sleeper)
    with Client.connected(daemon.address) as client:
        said = {"images_dir": images, "exec_cmd": ["sh", "-c", "echo over"]}
        assert client.ask("RESTORE", said).restore.pid == sleeper
        with pytest.raises(EOFError):
            client.receive()
    wait_until(lambda: "over\n" in (tmp_path / "images/criu.log").read_text(), "the command has run")


def test_silent_clients_do_not_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.options import Options
    from engine.rpc.link import Link
    from engine.rpc.session import Session

    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with Client(ours) as client:
        session = Session(Link(its), Options(), lambda _: pytest.fail("no work"), in_service=True, patience=1)
        assert session.serve() == 1
        answer = client.receive()[0]
        assert (answer.success, answer.cr_errmsg) == (False, "the client said nothing for 1 s")


def test_a_restored_tree_is_not_the_services(daemon: Daemon, images: str) -> None:
    """It outlives the worker that made it, and ends up with whoever adopts orphans."""
    with subjects.running(subjects.sleep()) as pid:
        with Client.connected(daemon.address) as client:
            assert client.ask("DUMP", {"pid": pid, "images_dir": images}).success
        await_end(pid)
        with Client.connected(daemon.address) as client:
            assert client.ask("RESTORE", {"images_dir": images}).success
        wait_until(lambda: len(daemon.workers()) == 1, "the worker has ended")
        assert is_running(pid)
        with open(f"/proc/{pid}/status") as status:
            assert f"PPid:\t{os.getpid()}\n" in status.read()
