"""Controlling terminals: what the kernel ties to sessions and tasks.

A session leader takes its terminal right after setsid(2): tasks inherit it by fork, and TIOCSCTTY gives it to nobody
but the caller. A task of the session that has no terminal, as it is older than that or has given it up, gives it up.
The foreground group is set when groups have been joined; it may have died out, and then a helper is in it for that
moment (births.py).

Of a shell job the session is the engine's, and the terminal with it. The job is brought to the foreground if it was
there and the engine is.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine import log
from engine.kernel import terminal
from engine.objects.paths import open_name
from engine.objects.tty_images import TerminalImages
from engine.objects.tty_restored import RestoredTerminals
from engine.tape.tape import Tape

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext, RestoredTask


def foreground_groups(ctx: RestoreContext) -> dict[int, int]:
    """Groups in the foreground of their terminals, with their sessions."""
    return {info.pgrp: session for session, info in ctx.part(TerminalImages).controlling().items() if info.pgrp}


def take(leader: RestoredTask, ctx: RestoreContext) -> None:
    """Give a session that has just been made its terminal."""
    info = ctx.part(TerminalImages).controlling().get(leader.pid)
    if info is not None:
        _ioctl(leader, ctx.part(RestoredTerminals).handle(info), terminal.TIOCSCTTY, 0, ctx)


def _ioctl(task: RestoredTask, fd: int, request: int, number: int, ctx: RestoreContext) -> None:
    """Have a task call ioctl(2) on a terminal. fd: ours. number: what the argument is, or points to."""
    (theirs,) = ctx.channel.send(task.stub, [fd])
    tape = Tape()
    argument = tape.buffer(number.to_bytes(4, "little")) if request == terminal.TIOCSPGRP else number
    call = tape.call("ioctl", theirs, request, argument, may_fail=True)
    tape.call("close", theirs)
    task.stub.run(tape)
    if call.failed:
        raise OSError(-call.result, f"task {task.pid}: {_WHAT[request]}: {os.strerror(-call.result)}")


_WHAT = {
    terminal.TIOCSCTTY: "can't be given its controlling terminal, which may control another session",
    terminal.TIOCNOTTY: "can't give up its controlling terminal",
    terminal.TIOCSPGRP: "can't bring a group to the foreground of its terminal",
}


def settle(ctx: RestoreContext) -> None:
    """Set foreground groups, and take terminals from tasks that have none. All groups have been joined."""
    pids = {task.pid for task in ctx.tasks}
    own = _terminal_of_engine()
    try:
        for session, info in ctx.part(TerminalImages).controlling().items():
            if session in pids and info.pgrp:
                _set_foreground(ctx.task(session), info.pgrp, ctx.part(RestoredTerminals).handle(info), ctx)
            elif session not in pids and info.pgrp in pids and own >= 0 and os.tcgetpgrp(own) == os.getpgrp():
                _set_foreground(ctx.tasks[0], info.pgrp, own, ctx)
        _give_up(own, ctx)
    finally:
        if own >= 0:
            os.close(own)


def _terminal_of_engine() -> int:
    """The engine's controlling terminal, -1 if it has none."""
    try:
        return open_name("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return -1


def _set_foreground(member: RestoredTask, group: int, fd: int, ctx: RestoreContext) -> None:
    """A group can't be in the foreground of a session that its number has left for another: then the leader's is."""
    try:
        _ioctl(member, fd, terminal.TIOCSPGRP, group, ctx)
    except (PermissionError, ProcessLookupError) as error:
        log.warn(str(error))


def _give_up(own: int, ctx: RestoreContext) -> None:
    """Tasks without the terminal of their session."""
    controlling = ctx.part(TerminalImages).controlling()
    pids = {task.pid for task in ctx.tasks}
    for task in ctx.tasks:
        if not task.core.tc.without_terminal:
            continue
        info = controlling.get(task.sid)
        fd = ctx.part(RestoredTerminals).handle(info) if info and task.sid in pids else own
        if fd >= 0:
            _ioctl(task, fd, terminal.TIOCNOTTY, 0, ctx)
