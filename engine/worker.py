"""A dump or a restore does its work in a process of its own, so that it is done wholly or not at all.

A tree is let go task by task, and killed task by task: an engine that is killed in between would leave half a tree. So
the process that the user started only waits. Its worker asks to die with it (PR_SET_PDEATHSIG), and takes that back
with one system call, the commit, immediately before it lets go or kills. Until then the death of the engine undoes
everything, from then on it changes nothing.
"""

from __future__ import annotations

import gc
import os
import signal
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_SET_PDEATHSIG
from engine.report import report

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Work: TypeAlias = Callable[[Callable[[], None]], int]
    Runner: TypeAlias = Callable[[Work], int]


def run(work: Work) -> int:
    """Have `work` done by a worker and wait for it. Returns its status. CrError: somebody killed it.

    work    is called with the function `commit`, returns the exit status, and may raise what report() takes
    """
    own_pid = os.getpid()
    child = os.fork()
    if not child:
        os._exit(_work(work, own_pid))
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        raise CrError(killed(child, os.WTERMSIG(status)))
    return os.WEXITSTATUS(status)


def killed(pid: int, signo: int) -> str:
    """What became of a worker that a signal has ended."""
    name = next((known.name for known in signal.Signals if known == signo), f"signal {signo}")
    return f"the engine's worker, process {pid}, was killed by {name}"


def run_here(work: Work) -> int:
    """Have `work` done by this very process: where the tree's parent depends on which process makes it."""
    return work(lambda: None)


def run_bound(work: Work) -> int:
    """Have `work` done by this very process, which is a worker already: it has been bound to its parent."""
    return work(_commit)


def bind(parent: int) -> bool:
    """Become a worker, which dies with its parent from now on. Returns False when that has gone already."""
    gc.disable()  # A worker does not live long, and a tree that stands would wait for each look at all that is loaded.
    syscall(NR["prctl"], PR_SET_PDEATHSIG, int(signal.SIGKILL))
    return os.getppid() == parent


def _work(work: Work, parent: int) -> int:
    if not bind(parent):
        return 1
    try:
        return work(_commit)
    except BaseException as exc:
        return report(exc)


def _commit() -> None:
    syscall(NR["prctl"], PR_SET_PDEATHSIG, 0)
