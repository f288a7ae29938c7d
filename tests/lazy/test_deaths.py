"""Whoever dies: no task ever runs with zeros where its memory should be, and no tree runs twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.kernel import userfaultfd
from engine.kernel.libc import NR, syscall
from engine.kernel.proc_maps import read_smaps
from tests.waiting import wait_until
from zdtm.harness.init import descendants

if TYPE_CHECKING:
    from tests.lazy.conftest import Lazy

_TRIES = 10
_MUCH = 64
"""MiB, more than a daemon brings in the moment in which it should bring little."""
_RESTORE_FINISHED = struct.pack("<I", 0x52535446)


def _guard_of(lazy: Lazy) -> int:
    (guard,) = descendants(lazy.daemon_pid)[1:]
    return guard


def test_daemon_killed(lazy: Lazy) -> None:
    """While a task waits for a page."""
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    lazy.restore_held()
    lazy.act()
    lazy.daemon.kill()
    wait_until(lazy.is_gone, "the task is dead")
    assert not (lazy.place / "result").exists()
    assert "the tasks that need it are killed" in lazy.log("lazy-pages")


def test_daemon_killed_after_a_fork(lazy: Lazy) -> None:
    """The child's memory is the child's own, and so must its death be: its creator has gone."""
    lazy.start("leave_an_orphan", _MUCH)
    lazy.dump()
    for _ in range(_TRIES):
        orphan = _leave_an_orphan(lazy)
        if _lacks_pages(orphan):
            break
        lazy.end_restored()
    else:
        pytest.fail(f"the daemon had brought everything before it could be killed, {_TRIES} times")
    lazy.daemon.kill()
    wait_until(lambda: _has_died(orphan), "the orphan is dead, too")
    wait_until(lazy.is_gone, "the task is dead")


def _leave_an_orphan(lazy: Lazy) -> int:
    """Restore, and stop the daemon when there is an orphan, whose pid is returned."""
    file = lazy.place / "orphan"
    file.unlink(missing_ok=True)
    lazy.serve()
    lazy.restore_held()
    lazy.act()
    lazy.step_until(file.exists)
    return int(file.read_text())


def _lacks_pages(pid: int) -> bool:
    """Whether a mapping is still watched by the daemon."""
    return any("um" in vma.flags for vma in read_smaps(pid))


def _has_died(pid: int) -> bool:
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass
    return not os.path.exists(f"/proc/{pid}")


def test_guard_killed(lazy: Lazy) -> None:
    """There is a new one, which does its work."""
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    lazy.restore_held()
    first = _guard_of(lazy)
    os.kill(first, signal.SIGKILL)
    # The daemon may have brought everything before a guard that is still dying is missed.
    wait_until(lambda: "State:\tZ" in Path(f"/proc/{first}/status").read_text(), "the guard is dead")
    lazy.go_on()
    lazy.act()
    lazy.check_result()
    lazy.check_served()
    assert f"the guard, process {first}, has died" in lazy.log("lazy-pages")


def test_daemon_asked_to_end(lazy: Lazy) -> None:
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    lazy.restore_held()
    lazy.daemon.terminate()
    lazy.go_on()
    assert lazy.daemon.wait(30) == 0
    wait_until(lazy.is_gone, "the task is dead")


def test_restore_without_daemon(lazy: Lazy) -> None:
    """One reason, and nothing is made."""
    lazy.start("read_all")
    lazy.dump()
    assert lazy.run("restore", "-d", "--lazy-pages") == 1
    assert "one reason: no lazy-pages daemon listens at" in lazy.log("restore")
    assert not os.path.exists(f"/proc/{lazy.pid}")


def test_failed_restore(lazy: Lazy) -> None:
    """After the tasks have been handed over. The daemon ends, since it can't serve another one."""
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    fail = lazy.place / "fail.sh"
    fail.write_text('#!/bin/sh\n[ "$CRTOOLS_SCRIPT_ACTION" != post-restore ]\n')
    fail.chmod(0o755)
    assert lazy.run("restore", "-d", "--lazy-pages", "--action-script", str(fail)) == 1
    assert lazy.daemon.wait(30) == 1
    assert "the restore has ended without success" in lazy.log("lazy-pages")
    wait_until(lazy.is_gone, "nothing is left")


def test_dump_while_pages_are_missing(lazy: Lazy) -> None:
    """They would be missing in the images."""
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    lazy.restore_held()
    assert lazy.run("dump", "-t", str(lazy.pid)) == 1
    assert "wait until the lazy-pages daemon has ended" in lazy.log("dump")
    lazy.go_on()
    lazy.check_served()
    lazy.act()
    lazy.check_result()


def test_lazy_images_need_a_lazy_restore(lazy: Lazy) -> None:
    """Restored at once, pages that were left behind would be zeros."""
    lazy.start("read_all")
    lazy.dump_lazily()
    lazy.go_elsewhere()
    assert lazy.run("restore", "-d") == 1
    assert "restore with --lazy-pages, too" in lazy.log("restore")
    assert lazy.run("lazy-pages") == 1
    assert "--page-server says where" in lazy.log("lazy-pages")


def _is_unharmed(lazy: Lazy) -> None:
    """The tree that was dumped goes on where it was."""
    lazy.come_home()
    lazy.act()
    lazy.check_result()


@pytest.mark.parametrize("who", ["daemon", "source"])
def test_transfer_fails(lazy: Lazy, who: str) -> None:
    """The restored tree dies, the dumped one goes on."""
    lazy.hand_over("read_all")
    assert lazy.is_elsewhere()
    if who == "daemon":
        lazy.kill(lazy.daemon_pid, signal.SIGKILL)
    else:
        lazy.source.kill()
        lazy.go_on()
    wait_until(lambda: not lazy.is_elsewhere(), "the restored task is dead")
    assert lazy.source.wait(30) == (1 if who == "daemon" else -signal.SIGKILL), lazy.log("dump")
    _is_unharmed(lazy)


def test_client_that_asks_for_what_is_not_there(lazy: Lazy) -> None:
    lazy.start("read_all")
    lazy.dump_lazily()
    with socket.create_connection(("127.0.0.1", lazy.port)) as client:
        client.sendall(struct.pack("<IIQQQ", 7, 0, 1, 0x1000, lazy.pid))
        assert client.recv(1) == b""
    assert lazy.source.wait(30) == 1
    assert "not dumped" in lazy.log("dump")
    _is_unharmed(lazy)


@pytest.mark.parametrize("seed", range(3))
def test_rubbish_at_both_sockets(lazy: Lazy, seed: int) -> None:
    """The daemon waits for a restore that makes sense; the tree goes on."""
    rubbish = random.Random(seed).randbytes(200)
    lazy.start("read_all")
    lazy.dump_lazily()
    with socket.create_connection(("127.0.0.1", lazy.port)) as client:
        client.sendall(rubbish)
    assert lazy.source.wait(30) == 1
    os.kill(lazy.pid, 0)


@pytest.mark.parametrize("said", [b"x", _RESTORE_FINISHED, struct.pack("<i", -7), bytes(range(64)), "no userfaultfd"])
def test_rubbish_for_the_daemon(lazy: Lazy, said: bytes | str) -> None:
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    with lazy.connected() as client:
        if isinstance(said, bytes):
            client.sendall(said)
        else:
            client.sendall(struct.pack("<i", lazy.pid))
            socket.send_fds(client, [b"!"], [client.fileno()])
    lazy.restore()
    lazy.act()
    lazy.check_result()
    lazy.check_served()


def test_task_that_has_gone_when_the_daemon_hears_of_it(lazy: Lazy) -> None:
    """A child may end right after the restore, before the daemon gets a processor. It needs nothing any more."""
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    assert not os.path.exists(f"/proc/{lazy.pid}")
    fd = syscall(NR["userfaultfd"], os.O_CLOEXEC | userfaultfd.USER_MODE_ONLY)
    with lazy.connected() as client:
        client.sendall(struct.pack("<i", lazy.pid))
        socket.send_fds(client, [b"!"], [fd])
        client.sendall(_RESTORE_FINISHED)
        lazy.check_served()
    os.close(fd)


@pytest.mark.parametrize("said", [b"", b"x"])
def test_silence_at_the_daemon(lazy: Lazy, said: bytes) -> None:
    """A restore that comes later, or is the last of many, does not wait for those who say nothing."""
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    with contextlib.ExitStack() as clients:
        for _ in range(20):
            client = clients.enter_context(lazy.connected())
            client.sendall(said)
        lazy.restore()
        lazy.act()
        lazy.check_result()
        lazy.check_served()
