"""Open namespaces, files of dead tasks in /proc, and everything that is refused by its name."""

from __future__ import annotations

import ctypes
import os
import select
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.kernel.libc import NR, syscall
from engine.objects.restored_remap import RestoredRemaps
from tests.objects.facts import link_of

if TYPE_CHECKING:
    from tests.objects.conftest import Cycle

NAMESPACES = ["pid", "net", "ipc", "uts", "time", "mnt", "user", "cgroup"]


@pytest.mark.parametrize("name", NAMESPACES)
def test_namespace(cycle: Cycle, name: str) -> None:
    fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY)
    (message,) = cycle.dump(fd)
    assert message.ns_id == NAMESPACES.index(name) + 1
    (new,) = cycle.restore()
    assert link_of(new) == link_of(fd)
    os.close(fd)


def test_namespace_of_others_is_refused(cycle: Cycle) -> None:
    with subprocess.Popen(["unshare", "--uts", "cat"], stdin=subprocess.PIPE) as other:
        own = os.readlink("/proc/self/ns/uts")
        while os.readlink(f"/proc/{other.pid}/ns/uts") == own:
            assert other.poll() is None
        fd = os.open(f"/proc/{other.pid}/ns/uts", os.O_RDONLY)
        assert other.stdin is not None
        other.stdin.close()
    with pytest.raises(Refused, match=r"uts:\[\d+\]\): is a uts namespace that is not the engine's own"):
        cycle.dump(fd)
    os.close(fd)


def test_namespace_number_that_is_not_known(cycle: Cycle) -> None:
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    cycle.dump(fd)
    os.close(fd)
    cycle.dump_context.entries[0].nsf.ns_id = 10
    with pytest.raises(Refused, match="is of a namespace that is not restored here"):
        cycle.check()


def test_files_of_a_dead_task_in_proc(cycle: Cycle) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as task:
        fds = [os.open(f"/proc/{task.pid}/{name}", os.O_RDONLY) for name in ("stat", "mountinfo", "")]
        task.communicate(b"\n")
    cycle.dump(*fds)
    remaps = [(entry.orig_id, entry.remap_id, entry.remap_type) for entry in cycle.images.read("REMAP_FPATH")]
    assert remaps == [(1, task.pid, 2)], "one remap for each dead task"
    ctx = cycle.check()
    assert ctx.part(RestoredRemaps).dead_pids == {task.pid}
    for fd in fds:
        os.close(fd)


def test_pid_of_a_dead_task_must_be_free(cycle: Cycle) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as task:
        fd = os.open(f"/proc/{task.pid}/stat", os.O_RDONLY)
        task.communicate(b"\n")
    cycle.dump(fd)
    os.close(fd)
    (entry,) = cycle.images.read("REMAP_FPATH")
    entry.remap_id = os.getpid()
    cycle.images.write("REMAP_FPATH", entry)
    with pytest.raises(Refused, match=f"pid {os.getpid()} is in use, but a file below /proc/{os.getpid()} of a dead"):
        cycle.check()


def io_uring() -> int:
    return syscall(NR["io_uring_setup"], 1, ctypes.create_string_buffer(120))


def userfaultfd() -> int:
    return syscall(NR["userfaultfd"], 0)


def perf_event() -> int:
    attributes = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56)
    return syscall(NR["perf_event_open"], attributes, 0, -1, -1, 0)


def packet_socket() -> int:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW).detach()


def path_of_a_socket() -> int:
    with socket.socket() as sock:
        return os.open(f"/proc/self/fd/{sock.fileno()}", os.O_PATH)


def path_of_an_epoll() -> int:
    with select.epoll() as poll:
        return os.open(f"/proc/self/fd/{poll.fileno()}", os.O_PATH)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (io_uring, "an io_uring instance"),
        (userfaultfd, "a userfaultfd"),
        (perf_event, "a perf event"),
        (packet_socket, "a socket of family packet"),
        (path_of_a_socket, "an O_PATH descriptor of a file without a name"),
        (path_of_an_epoll, "an O_PATH descriptor of a file without a name"),
    ],
)
def test_refused_by_name(cycle: Cycle, make: object, name: str) -> None:
    assert callable(make)
    fd: int = make()
    with pytest.raises(Refused, match=rf"descriptor {fd} \(.*\): {name} can't be dumped \(close it before the dump\)"):
        cycle.dump(fd)
    os.close(fd)
