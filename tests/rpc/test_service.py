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
from tests.rpc.conftest import ENGINE, Daemon, await_end, is_running, serving
from tests.waiting import wait_until
from zdtm.harness.rpc import Client, request

if TYPE_CHECKING:
    from collections.abc import Iterator

_NOBODY = 65534


def answers(address: str) -> bool:
    """Whether a service is there."""
    with Client.connected(address) as client:
        return bool(client.ask("VERSION").success)


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


# The daemon


def test_its_files_and_its_end(tmp_path: Path) -> None:
    with serving(tmp_path, "--pidfile", "pid", "--address", "here") as daemon:
        assert int((tmp_path / "pid").read_text()) == daemon.process.pid
        assert answers(str(tmp_path / "here"))
    assert os.listdir(tmp_path) == ["service.log"]


def test_a_name_is_taken_over_from_a_dead_service_only(tmp_path: Path) -> None:
    with serving(tmp_path) as first:
        run = _start(tmp_path)
        assert run.returncode == 1
        assert f"can't listen at {first.address}: Address already in use" in run.stderr
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
    assert os.path.exists(first.address)
    with serving(tmp_path) as second:
        assert answers(second.address)


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    run = _start(tmp_path, "--address", "file")
    assert run.returncode == 1
    assert "Address already in use" in run.stderr
    assert (tmp_path / "file").read_text() == "precious"


def test_a_pidfile_that_exists(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1")
    run = _start(tmp_path, "--pidfile", "pid")
    assert run.returncode == 1
    assert "pid file pid: File exists" in run.stderr
    assert sorted(os.listdir(tmp_path)) == ["pid"]


def _start(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = [*ENGINE, "service", "-W", str(tmp_path), *options]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)


def test_a_daemon_in_the_background(tmp_path: Path, sleeper: int, images: str) -> None:
    """The command ends when the service can be connected to."""
    run = _start(tmp_path, "--daemon", "--pidfile", "pid", "-o", "log")
    assert (run.returncode, run.stderr) == (0, "")
    pid = int((tmp_path / "pid").read_text())
    try:
        with Client.connected(str(tmp_path / "criu_service.socket")) as client:
            assert client.ask("DUMP", {"pid": sleeper, "images_dir": images, "leave_running": True}).success
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    finally:
        os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not (tmp_path / "pid").exists(), "it has ended")


def test_a_daemon_that_can_not_start_says_so(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text("1")
    assert _start(tmp_path, "--daemon", "--pidfile", "pid", "-o", "log").returncode == 1
    assert "pid file pid: File exists" in (tmp_path / "log").read_text()


def _activated(tmp_path: Path, sock: socket.socket, count: int = 1) -> subprocess.Popen[bytes]:
    """Start a service as systemd does: the socket is descriptor 3, LISTEN_PID its own pid."""
    start = "import os; os.environ['LISTEN_PID'] = str(os.getpid()); os.execv({0!r}, [{0!r}, *{1!r}])"
    words = [*ENGINE[1:], "service", "-W", str(tmp_path), "-o", "log"]
    os.dup2(sock.fileno(), 3) if sock.fileno() != 3 else os.set_inheritable(3, True)
    return subprocess.Popen(
        [ENGINE[0], "-c", start.format(ENGINE[0], words)], pass_fds=[3], env={**os.environ, "LISTEN_FDS": str(count)}
    )


@pytest.fixture
def third_is_free() -> Iterator[None]:
    """Descriptor 3 of this process is put aside for the while."""
    kept = os.dup(3) if os.path.exists("/proc/self/fd/3") else -1
    yield
    if kept >= 0:
        os.dup2(kept, 3)
        os.close(kept)
    elif os.path.exists("/proc/self/fd/3"):
        os.close(3)


def test_systemd_passes_the_socket(tmp_path: Path, third_is_free: None) -> None:
    name = str(tmp_path / "passed")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(name)
        sock.listen()
        process = _activated(tmp_path, sock)
        with Client.connected(name) as client:
            assert client.ask("VERSION").success
        process.terminate()
        assert process.wait(30) == 0
    assert os.path.exists(name), "the name is systemd's to remove"
    assert not os.path.exists(tmp_path / "criu_service.socket")


def test_what_systemd_may_not_pass(tmp_path: Path, third_is_free: None) -> None:
    for kind, count, text in (
        (socket.SOCK_STREAM, 1, "is none that ListenSequentialPacket= with a path makes"),
        (socket.SOCK_SEQPACKET, 2, "systemd has passed 2 sockets"),
    ):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            sock.bind("")
            sock.listen()
            assert _activated(tmp_path, sock, count).wait(60) == 1
        assert text in (tmp_path / "log").read_text()


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


_ASKS_FOR_ITSELF = """
import os, sys
from zdtm.harness.rpc import Client
address, images, options = sys.argv[1], sys.argv[2], eval(sys.argv[3])
with Client.connected(address) as client:
    answer = client.ask("DUMP", {"images_dir": images, **options})
    more = client.sock.recv(100)
with open(images + "/seen", "a") as file:
    file.write(f"{os.getpid()} {answer.success} {answer.dump.restored} {answer.cr_errmsg} {more!r}\\n")
"""


def _asks_for_itself(daemon: Daemon, images: str, **options: Any) -> subprocess.Popen[bytes]:
    words = [ENGINE[0], "-c", _ASKS_FOR_ITSELF, daemon.address, images, repr(options)]
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(words, start_new_session=True, stdin=nowhere, stdout=nowhere, stderr=nowhere)


def test_a_process_that_asks_to_be_dumped_itself(daemon: Daemon, images: str) -> None:
    """It runs on when it has been restored, and is told so on the connection on which it asked."""
    process = _asks_for_itself(daemon, images)
    assert process.wait(60) == -signal.SIGKILL
    seen = Path(images, "seen")
    assert not seen.exists()
    with Client.connected(daemon.address) as client:
        assert client.ask("RESTORE", {"images_dir": images}).restore.pid == process.pid
    wait_until(seen.exists, "it goes on")
    wait_until(lambda: seen.read_text() == f"{process.pid} True True  b''\n", "it is told", seen.read_text)
    await_end(process.pid)


def test_a_process_that_asks_for_a_snapshot_of_itself(daemon: Daemon, images: str) -> None:
    process = _asks_for_itself(daemon, images, leave_running=True)
    assert process.wait(60) == 0
    assert Path(images, "seen").read_text() == f"{process.pid} True False  b''\n"


def test_a_process_that_asks_for_steps_of_its_own_dump(daemon: Daemon, images: str) -> None:
    """It could not answer while it stands still."""
    process = _asks_for_itself(daemon, images, notify_scripts=True)
    assert process.wait(60) == 0
    assert "can't be dumped and be told of each step of it" in Path(images, "seen").read_text()
