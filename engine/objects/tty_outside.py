"""The terminal of a shell outside of the tree (--shell-job). What was on that is on the engine's after a restore."""

from __future__ import annotations

import fcntl
import os
import signal
from typing import TYPE_CHECKING

from engine.errors import CrError
from engine.kernel import terminal

if TYPE_CHECKING:
    from engine.kernel.terminal import Modes
    from engine.restore_context import RestoreContext

_CURRENT = "/dev/tty"


def _of_engine() -> str | None:
    """A path that leads to the engine's terminal: what it has for input, output or errors, or what controls it."""
    for fd in range(3):
        if os.isatty(fd):
            return f"/proc/self/fd/{fd}"
    try:
        os.close(os.open(_CURRENT, os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return None
    return _CURRENT


def refuse(name: str, ctx: RestoreContext) -> None:
    """Add to the problems that a terminal can't be replaced, if so."""
    if not ctx.opts.shell_job:
        remedy = "use --shell-job to have the terminal of the engine in its place"
        ctx.problems.add(f"terminal {name}: its master was not in the tree that was dumped", remedy=remedy)
    elif _of_engine() is None:
        remedy = "start the engine on a terminal"
        ctx.problems.add(f"terminal {name}: the engine has none to put in its place", remedy=remedy)


def open_in_place(flags: int) -> int:
    """A new description of the engine's terminal."""
    path = _of_engine()
    if path is None:
        raise CrError("the engine has no terminal to put in the place of another (start it on one)")
    fd = os.open(path, flags | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.fcntl(fd, fcntl.F_SETFL, flags)
    return fd


def set_modes(fd: int, modes: Modes) -> None:
    """Set the modes of a terminal that may control the engine, which may be in its background."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        terminal.set_modes(fd, modes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
