"""The sandbox of an item: namespaces, results, deadlines, and that nobody gets out alive."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.waiting import wait_until
from zdtm.harness import host
from zdtm.harness.init import Init, descendants, died_how, others
from zdtm.harness.sandbox import Result, run

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")


def inside(tmp_path: Path, work: Callable[[], object], deadline: float = 30) -> Result:
    """Run work() in a sandbox; its value becomes the text."""
    return run(lambda: Result("passed", text=str(work())), tmp_path, deadline)


def test_pid_1_in_namespaces_of_its_own(tmp_path: Path) -> None:
    kinds = ("pid", "mnt", "net", "ipc", "uts")
    here = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]

    def look() -> object:
        there = [os.readlink(f"/proc/self/ns/{kind}") for kind in kinds]
        return os.getpid(), [one == other for one, other in zip(here, there, strict=True)], others()

    assert inside(tmp_path, look) == Result("passed", text="(1, [False, False, False, False, False], [])")


def test_has_a_network_with_loopback(tmp_path: Path) -> None:
    def connect() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as server:
            client = socket.create_connection(server.getsockname())
            client.send(b"hello")
            return server.accept()[0].recv(10)

    assert inside(tmp_path, connect).text == "b'hello'"


def test_keeps_no_descriptor_of_pytest(tmp_path: Path) -> None:
    assert inside(tmp_path, lambda: sorted(os.listdir("/proc/self/fd"))).text == "['0', '1', '2', '3']"


def test_an_exception_is_a_failure_of_the_harness(tmp_path: Path) -> None:
    result = inside(tmp_path, lambda: 1 // 0)
    assert (result.outcome, result.judge) == ("failed", "harness")
    assert "ZeroDivisionError" in result.text


def test_a_death_is_a_failure_of_the_harness(tmp_path: Path) -> None:
    result = inside(tmp_path, lambda: os._exit(7))
    assert result == Result("failed", "harness", "the item's init has left no result: exit status 7")


def test_a_deadline_ends_everybody(tmp_path: Path) -> None:
    marker = f"zdtm-test-{os.getpid()}"

    def hang() -> None:
        subprocess.Popen(["/bin/sleep", "1000"], env={"MARKER": marker})
        signal.pause()

    result = inside(tmp_path, hang, deadline=0.3)
    assert result.text == "killed: not done after 0 s"
    assert not _processes_with(marker)


def test_the_sandbox_dies_with_its_worker(tmp_path: Path) -> None:
    marker = f"zdtm-test-{os.getpid()}"
    source = (
        "import signal, subprocess\nfrom pathlib import Path\nfrom zdtm.harness.sandbox import run\n"
        "def hang():\n    subprocess.Popen(['/bin/sleep', '1000']); Path('up').touch(); signal.pause()\n"
        f"run(hang, Path({str(tmp_path)!r}), 1000)\n"
    )
    environment = {"PYTHONPATH": str(Path(host.__file__).parent.parent.parent), "MARKER": marker}
    worker = subprocess.Popen([sys.executable, "-c", source], env=environment, cwd=tmp_path)
    wait_until((tmp_path / "up").exists, "the sandbox is up")
    assert len(_processes_with(marker)) == 4
    worker.kill()
    worker.wait()
    wait_until(lambda: not _processes_with(marker), "all have died")


def _processes_with(marker: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if f"MARKER={marker}".encode() in Path(f"/proc/{pid}/environ").read_bytes():
                found.append(pid)
        except OSError:
            continue
    return found


def test_init_starts_clean_processes_and_reaps_orphans(tmp_path: Path) -> None:
    script = "trap '' HUP; (sleep 0.05; exit 3) & cat /proc/self/status; exit 5"

    def work() -> object:
        init = Init()
        pid = init.spawn(["/bin/sh", "-c", script], {"A": "b"}, tmp_path, tmp_path / "out")
        status = init.wait_exit(pid, 10)
        gone = init.wait_for(lambda: not others(), 10)
        return status, gone, sorted(init.statuses.values())

    assert inside(tmp_path, work).text == "(1280, True, [768])"
    status = dict(line.split(":\t") for line in (tmp_path / "out").read_text().splitlines() if ":\t" in line)
    assert int(status["SigBlk"], 16) == 0
    assert int(status["SigIgn"], 16) == 1 << signal.SIGHUP - 1  # what the script itself ignores


def test_descendants(tmp_path: Path) -> None:
    process = subprocess.Popen(["/bin/sh", "-c", "sleep 100 & sleep 100 & echo; wait"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    tree = descendants(process.pid)
    assert len(tree) == 3
    assert tree[0] == process.pid
    for pid in reversed(tree):
        os.kill(pid, signal.SIGKILL)
    process.communicate()


def test_descendants_that_are_reaped_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has found /proc/PID already is told ESRCH below it, who comes later ENOENT."""
    child = os.fork()
    if not child:
        signal.pause()
    directory = os.open(f"/proc/{child}", os.O_RDONLY)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    listdir = os.listdir
    monkeypatch.setattr(os, "listdir", lambda _: listdir(f"/proc/self/fd/{directory}/task"))
    assert descendants(child) == [child]
    os.close(directory)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(0, "exit status 0"), (256, "exit status 1"), (11, "killed by SIGSEGV"), (134, "killed by SIGABRT")],
)
def test_died_how(status: int, expected: str) -> None:
    assert died_how(status) == expected


# What the host judge finds.

LEFT = {
    "processes": "subprocess.Popen(['/bin/sleep', '1000'])",
    "mounts": "subprocess.check_call(['/bin/mount', '-t', 'tmpfs', 'left', '/mnt'])",
    "unix sockets": "kept.append(socket.socket(socket.AF_UNIX)); kept[0].bind('\\0left')",
    "files of a dump in the work directory": "(item / 'work' / 'link_remap.3').touch()",
    "temporary files": "(item / 'tmp' / 'x').touch()",
    "files beside the images": "(item / 'images' / 'x').touch()",
    "files in shared directories": "pathlib.Path('/dev/shm/crtools-left').touch()",
}


@pytest.mark.parametrize("kind", LEFT)
def test_host_finds(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "SETTLE_SECONDS", 0.1)
    for name in ("work", "images", "tmp"):
        (tmp_path / name).mkdir()
    places = tmp_path, tmp_path / "work", tmp_path / "tmp"

    def work() -> list[str]:
        before = host.look(*places)
        assert host.leftovers(before, *places) == []
        names = {"item": tmp_path, "kept": [], **{name: sys.modules[name] for name in MODULES}}
        exec(LEFT[kind], names)
        try:
            return host.leftovers(before, *places)
        finally:
            Path("/dev/shm/crtools-left").unlink(missing_ok=True)

    text = inside(tmp_path, work).text
    assert text.startswith(f"['{kind}: "), text


MODULES = ("subprocess", "socket", "pathlib")
