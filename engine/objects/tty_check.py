"""What a restore of terminals would trip over, found before anything is made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.images.text import get_text
from engine.objects import tty_outside, tty_pty
from engine.objects.external import is_inherited
from engine.objects.paths import problem_of, stat_name
from engine.objects.tty_images import TerminalImages
from engine.objects.tty_kinds import CONSOLE, CTTY, EXT_TTY, PTY, SERIAL, VT, external_key

if TYPE_CHECKING:
    from engine.objects.tty_images import Pty
    from engine.restore_context import RestoreContext

Message = Any

_DAMAGED = "the image is damaged"


def check_file(entry: Message, ctx: RestoreContext) -> None:
    """One description: it must have a terminal, and a path that leads to it."""
    info = ctx.part(TerminalImages).infos.get(entry.tty_info_id)
    path = ctx.entries.get(entry.regf_id)
    if info is None:
        ctx.problems.add(f"files.img: terminal {entry.id} is not in tty-info.img", remedy=_DAMAGED)
    elif path is None or not path.HasField("reg") or problem_of(get_text(path.reg.name)):
        ctx.problems.add(f"files.img: terminal {entry.id} has no path", remedy=_DAMAGED)
    elif info.type not in (PTY, EXT_TTY) and _device(path.reg) != info.rdev:
        number = f"{os.major(info.rdev)}:{os.minor(info.rdev)}"
        ctx.problems.add(f"{get_text(path.reg.name)}: is not terminal {number} any more", remedy="put the node back")


def _device(path: Message) -> int:
    try:
        return stat_name(get_text(path.name)).st_rdev
    except OSError:
        return -1


def check_all(ctx: RestoreContext) -> None:
    """The terminals, after all descriptions."""
    images = ctx.part(TerminalImages)
    for info in images.infos.values():
        if (info.type == PTY) != info.HasField("pty"):
            ctx.problems.add(f"tty-info.img: terminal {info.id} has no number, or a needless one", remedy=_DAMAGED)
        elif info.type in (CONSOLE, VT, SERIAL) and not images.files[info.id]:
            ctx.problems.add(f"tty-info.img: terminal {info.id} has no description", remedy=_DAMAGED)
        elif info.type == EXT_TTY:
            _check_external(info, ctx)
    if len(images.of_type(PTY)) != sum((pty.master is not None) + (pty.slave is not None) for pty in images.ptys):
        ctx.problems.add("tty-info.img: a pseudo terminal is there twice", remedy=_DAMAGED)
    for pty in images.ptys:
        _check_pty(pty, images, ctx)
    for info in images.of_type(CTTY):
        for entry in images.files[info.id] if info.HasField("termios") else ():
            _check_current(entry, images, ctx)
    _check_sessions(images, ctx)


def _check_current(entry: Message, images: TerminalImages, ctx: RestoreContext) -> None:
    behind = images.behind(entry)
    if behind is None:
        tty_outside.refuse("/dev/tty", ctx)
    elif behind.type == CTTY:
        ctx.problems.add(f"files.img: terminal {entry.id} is one of itself", remedy=_DAMAGED)


def _check_external(info: Message, ctx: RestoreContext) -> None:
    key = external_key(info.rdev, info.dev)
    if not is_inherited(ctx, key):
        ctx.problems.add(f"{key}: this terminal is external", remedy=f"pass it by --inherit-fd fd[N]:{key}")


def _check_pty(pty: Pty, images: TerminalImages, ctx: RestoreContext) -> None:
    if not pty.is_inside:
        tty_outside.refuse(f"/dev/pts/{pty.index}", ctx)
    elif pty.master is None and not images.files[pty.slave.id]:
        ctx.problems.add(f"tty-info.img: terminal {pty.index} has no description", remedy=_DAMAGED)
    elif pty.master is not None and len(images.files[pty.master.id]) != 1:
        what = f"tty-info.img: the master of terminal {pty.index} has no description, or several"
        ctx.problems.add(what, remedy=_DAMAGED)
    elif not ctx.problems:
        try:
            tty_pty.refuse_index(pty.index, images.slave_name(pty), ctx)
        except OSError as error:
            name = images.ptmx_name(pty)
            ctx.problems.add(f"{name}: {error.strerror}", remedy="mount a devpts, and make the node")


def _check_sessions(images: TerminalImages, ctx: RestoreContext) -> None:
    leaders = {task.pid for task in ctx.living if task.sid == task.pid}
    for session, info in images.controlling().items():
        if session in {task.pid for task in ctx.tasks} - leaders:
            what = f"tty-info.img: terminal {info.id} controls session {session}, whose leader is not alive"
            ctx.problems.add(what, remedy=_DAMAGED)
