"""Stubs: tasks that do nothing but run tapes, and die with their engine."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from engine.errors import CrError
from engine.kernel import proc_stat, ptrace
from engine.kernel.proc_stat import read_stat
from engine.tape.stub import CLONE_PARENT, STUB_SIZE, THREAD_FLAGS, Stub, make_root_stub
from engine.tape.tape import Tape, TapeError
from tests.tape.tracing import maps
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

BASE = 0x10000
CHANNEL = 5
_PIDS_OF_A_WORKER = 64
NEVER_BLOCKED = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTRAP)
KERNELS = ("[stack]", "[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]")


def free_pids(count: int) -> list[int]:
    """Numbers that nobody has, far from those that are given out next, and from those of other workers of xdist."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    with open("/proc/sys/kernel/pid_max") as file:
        highest = int(file.read()) - 1 - worker * _PIDS_OF_A_WORKER
    return [pid for pid in range(highest, 1, -1) if not os.path.exists(f"/proc/{pid}")][:count]


def make(pid: int) -> Stub:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        return make_root_stub(pid, BASE, theirs, CHANNEL)


def kill(*pids: int) -> None:
    """End stubs and wait for them, children before parents."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            while not os.WIFSIGNALED(os.waitpid(pid, 0x40000000)[1]):
                continue


@pytest.fixture
def pids() -> Iterator[list[int]]:
    """Four free pids; whoever has got one is killed after the test."""
    chosen = free_pids(4)
    yield chosen
    kill(*reversed(chosen))


def ids(stub: Stub) -> tuple[int, int, int]:
    """(process, thread, parent) as the stub itself sees them."""
    tape = Tape()
    calls = [tape.call(name) for name in ("getpid", "gettid", "getppid")]
    stub.run(tape)
    pid, tid, parent = (call.result for call in calls)
    return pid, tid, parent


def test_root(pids: list[int]) -> None:
    """It has the pid that was asked for, one descriptor, and in its memory itself and what the kernel maps."""
    stub = make(pids[0])
    assert ids(stub) == (pids[0], pids[0], os.getpid())
    assert os.listdir(f"/proc/{pids[0]}/fd") == [str(CHANNEL)]
    own = [(start, end) for start, end, name in maps(pids[0]) if name not in KERNELS]
    assert min(own)[0] == BASE
    assert max(own)[1] == BASE + STUB_SIZE
    assert stub.tracee.sigmask() == ptrace.ALL_SIGNALS & ~sum(1 << number - 1 for number in NEVER_BLOCKED)


def test_program_is_forgotten(pids: list[int]) -> None:
    """Nothing of the file that it was started from is mapped: the task's own executable is to be told instead."""
    make(pids[0])
    with open(f"/proc/{pids[0]}/maps") as lines:
        assert not [line for line in lines if "memfd" in line or "crucible" in line]


def test_tapes(pids: list[int]) -> None:
    stub = make(pids[0])
    tape = Tape()
    text = tape.buffer(8)
    tape.call("prctl", 15, tape.buffer(b"a stub\0"))
    tape.call("getcwd", text, 8, may_fail=True)
    name = tape.buffer(16)
    tape.call("prctl", 16, name)
    stub.run(tape)
    assert name.content.startswith(b"a stub\0")
    tape = Tape()
    calls = [tape.call("getppid") for _ in range(50_000)]
    stub.run(tape)
    assert {call.result for call in calls} == {os.getpid()}
    stub.run(Tape())


def test_failing_call(pids: list[int]) -> None:
    stub = make(pids[0])
    tape = Tape()
    tape.call("setpgid", 0, pids[1])
    with pytest.raises(TapeError, match=r"setpgid\(0x0, .*Operation not permitted"):
        stub.run(tape)
    assert ids(stub)[0] == pids[0]


def test_tape_that_is_too_long(pids: list[int]) -> None:
    stub = make(pids[0])
    tape = Tape()
    tape.buffer(stub.arena_size)
    tape.call("getpid")
    with pytest.raises(CrError, match="bytes of state at once"):
        stub.run(tape)


def test_child_and_sibling(pids: list[int]) -> None:
    root_pid, child_pid, sibling_pid, _ = pids
    root = make(root_pid)
    child = root.clone(child_pid)
    sibling = child.clone(sibling_pid, CLONE_PARENT)
    assert ids(child) == (child_pid, child_pid, root_pid)
    assert ids(sibling) == (sibling_pid, sibling_pid, root_pid)


def test_child_has_its_own_memory(pids: list[int]) -> None:
    root = make(pids[0])
    child = root.clone(pids[1])
    page = 0x40000000
    for stub, value in ((root, 1), (child, 2)):
        tape = Tape()
        tape.call("mmap", page, 4096, 3, 0x32, -1, 0)
        tape.store(page, value)
        stub.run(tape)
    assert struct.unpack("<Q", root.memory.read(page, 8)) == (1,)
    assert struct.unpack("<Q", child.memory.read(page, 8)) == (2,)


def test_threads(pids: list[int]) -> None:
    """They share everything but their tapes: the leader's is run at the same time as a thread's."""
    pid, first, second, _ = pids
    root = make(pid)
    threads = [root.clone(tid, THREAD_FLAGS) for tid in (first, second)]
    assert [ids(thread) for thread in threads] == [(pid, first, os.getpid()), (pid, second, os.getpid())]
    assert sorted(os.listdir(f"/proc/{pid}/task"), key=int) == sorted(map(str, pids[:3]), key=int)
    tape = Tape()
    tape.call("dup3", CHANNEL, 77, 0)
    threads[1].run(tape)
    assert sorted(os.listdir(f"/proc/{pid}/fd"), key=int) == [str(CHANNEL), "77"]


def test_pid_in_use(pids: list[int]) -> None:
    with pytest.raises(
        CrError, match=rf"task {os.getpid()}: its pid is in use \(end the process that has it\)"
    ) as error:
        make(os.getpid())
    assert error.value.cr_errno == 17
    root = make(pids[0])
    with pytest.raises(CrError, match="task 1: its pid is in use") as error:
        root.clone(1)
    assert error.value.cr_errno == 17
    assert ids(root)[0] == pids[0]


def test_stub_is_killed(pids: list[int]) -> None:
    stub = make(pids[0])
    os.kill(pids[0], signal.SIGKILL)
    tape = Tape()
    tape.call("ppoll", 0, 0, 0, 0, 8)
    with pytest.raises((CrError, ProcessLookupError)):
        stub.run(tape)


@pytest.mark.parametrize(("nr_threads", "failures"), [(1, 0), (3, 0), (3, 2)])
def test_stub_is_killed_in_a_tape(
    pids: list[int], nr_threads: int, failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The death of a leader is told only when those of the other threads have been waited for. failures: so often it
    can't be looked at."""
    failing = iter([OSError(errno.EMFILE, os.strerror(errno.EMFILE))] * failures)

    def stat(pid: int, tid: int | None = None) -> proc_stat.Stat:
        if error := next(failing, None):
            raise error
        return read_stat(pid, tid)

    monkeypatch.setattr(proc_stat, "read_stat", stat)
    stub = make(pids[0])
    for tid in pids[1:nr_threads]:
        stub.clone(tid, THREAD_FLAGS)
    tape = Tape()
    tape.call("ppoll", 0, 0, 0, 0, 8)
    stub.start(tape)
    os.kill(pids[0], signal.SIGKILL)
    with pytest.raises(CrError, match=rf"task {pids[0]}: died \(wait status 0x9\) while it was restored"):
        stub.finish(tape)
    assert next(failing, None) is None


def test_stub_dies_in_a_tape(pids: list[int]) -> None:
    stub = make(pids[0])
    tape = Tape()
    tape.call("exit_group", 3)
    with pytest.raises(CrError, match=rf"task {pids[0]}: died \(wait status 0x300\) while it was restored"):
        stub.run(tape)


def test_death_of_the_engine_kills(pids: list[int]) -> None:
    """The root, its child and its thread, whatever they are doing."""
    engine = os.fork()
    if not engine:
        root = make(pids[0])
        child = root.clone(pids[1])
        root.clone(pids[2], THREAD_FLAGS)
        tape = Tape()
        tape.call("rt_sigtimedwait", tape.buffer(8), 0, 0, 8)
        child.start(tape)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(engine, 0)
    wait_until(lambda: not any(_runs(pid) for pid in pids), "nothing of the tree is left")


def _runs(pid: int) -> bool:
    """Alive, not a zombie that init has not reaped yet."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(") ")[2][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_letting_go(pids: list[int]) -> None:
    """unmap_and: the stub's mappings are gone and the registers are the ones given."""
    stub = make(pids[0])
    page = 0x40000000
    tape = Tape()
    tape.call("mmap", page, 4096, 7, 0x32, -1, 0)
    stub.run(tape)
    registers = dict(stub.registers(), **dict.fromkeys(("ip", "pc"), page))
    stub.unmap_and({name: value for name, value in registers.items() if name in stub.registers()}, unmap=True)
    assert not [area for area in maps(pids[0]) if area[0] < BASE + STUB_SIZE]
    assert stub.arch.instruction_pointer(stub.registers()) == page
