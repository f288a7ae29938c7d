"""Freezing while the tree changes: what is born between two looks at it is not left out."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.kernel import procfs
from engine.task import seize
from engine.task.seize import FrozenTree
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEIRS = 6
"""More of them than there are looks at a tree that nothing happens to."""

_CHAIN_OF_THREADS = """
import _thread, os, signal

def succeed():
    os.read(0, 1)
    _thread.start_new_thread(succeed, ())

_thread.start_new_thread(succeed, ())
os.write(1, b"ready")
signal.pause()
"""


_FAMILY = """
import os, signal, sys

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(int(sys.argv[1])):
    if not os.fork():
        signal.pause()
os.write(1, b"ready")
signal.pause()
"""


@contextlib.contextmanager
def _running(program: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program in Python that has said "ready"; in the end, it is killed."""
    command = [sys.executable, "-I", "-S", "-c", program, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        yield process
        process.kill()


@pytest.fixture
def chain() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a thread that, for each byte it is sent, makes another one and exits."""
    with _running(_CHAIN_OF_THREADS) as process:
        wait_until(lambda: len(procfs.list_tids(process.pid)) == 2, "there are two threads")
        yield process


@pytest.fixture
def family() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose children wait to be killed, and leave no zombies."""
    with _running(_FAMILY, str(_HEIRS + 2)) as process:
        yield process
        for pid in procfs.children(process.pid):
            os.kill(pid, signal.SIGKILL)


def test_thread_that_leaves_an_heir(chain: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been listed, and before it can be seized it has made another one and exited."""
    heirs = iter(range(_HEIRS))

    def list_tids(pid: int) -> list[int]:
        tids = procfs.list_tids(pid)
        if next(heirs, None) is not None:
            assert chain.stdin is not None
            chain.stdin.write(b"!")
            wait_until(lambda: not os.path.exists(f"/proc/{pid}/task/{tids[-1]}"), "the thread has an heir")
        return tids

    monkeypatch.setattr(seize, "list_tids", list_tids)
    with FrozenTree(chain.pid, 20) as tree:
        tree.freeze()
        assert [thread.tid for thread in tree.root.threads] == procfs.list_tids(chain.pid)
        assert next(heirs, None) is None


def test_children_that_are_listed_while_one_goes(
    family: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel may leave out who comes behind that one."""
    victims = iter(procfs.children(family.pid)[:_HEIRS])

    def children(pid: int) -> list[int]:
        if pid == family.pid and (victim := next(victims, None)):
            os.kill(victim, signal.SIGKILL)
            wait_until(lambda: not os.path.exists(f"/proc/{victim}"), "the child has gone")
            return [victim]
        return procfs.children(pid)

    monkeypatch.setattr(seize, "children", children)
    with FrozenTree(family.pid, 20) as tree:
        tree.freeze()
        assert [child.pid for child in tree.root.children] == procfs.children(family.pid)
        assert next(victims, None) is None
