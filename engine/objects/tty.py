"""Terminals: masters and slaves of pseudo terminals, /dev/tty, the console, virtual and serial terminals.

The name, the open flags and the mode stand in a REG entry of each description's own, the state of the terminal in
tty-info.img, what is queued in it in tty-data.img. Which session it controls is restored as that is born
(tty_session.py).
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from engine.images.text import set_text
from engine.kernel import terminal
from engine.objects import fown, tty_check
from engine.objects.base import FileKind
from engine.objects.paths import DELETED
from engine.objects.regular import REGULAR, describe_path, refuse_path, target_of
from engine.objects.tty_dumped import DumpedTerminals
from engine.objects.tty_images import TerminalImages
from engine.objects.tty_kinds import EXT_TTY, PTY
from engine.objects.tty_restored import RestoredTerminals

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any


class Tty(FileKind):
    """TTY."""

    type = 11
    field = "tty"

    def recognise(self, file: OpenFile) -> bool:
        return stat.S_ISCHR(file.stat.st_mode) and terminal.is_terminal(file.stat.st_rdev)

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        ctx.part(DumpedTerminals).add(file)
        if not terminal.is_slave(file.stat.st_rdev):
            refuse_path(str(file), target_of(file), file.task, ctx)

    def refuse_late(self, ctx: DumpContext) -> None:
        ctx.part(DumpedTerminals).refuse()

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        terminals = ctx.part(DumpedTerminals)
        regf_id = ctx.new_file_id()
        ctx.add_entry(REGULAR, _path(file, regf_id, ctx))
        entry = message("tty_file_entry")(id=file.id, tty_info_id=terminals.info_id(file), flags=file.flags)
        entry.regf_id = regf_id
        if file.stat.st_rdev == terminal.CURRENT and (number := terminals.current_id(file)) is not None:
            entry.current_id = number
        return entry

    def finish_dump(self, ctx: DumpContext) -> None:
        ctx.part(DumpedTerminals).write()

    def answers_for(self, entry: Message, ctx: RestoreContext) -> int | None:
        """A slave's name exists when it is made; of a terminal from outside it does not matter."""
        info = ctx.part(TerminalImages).infos.get(entry.tty_info_id)
        if info is None or info.type not in (PTY, EXT_TTY) or info.id & 1:
            return None
        return int(entry.regf_id)

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        tty_check.check_file(entry, ctx)

    def check_late(self, ctx: RestoreContext) -> None:
        tty_check.check_all(ctx)

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        return ctx.part(RestoredTerminals).take(entry)


def _path(file: OpenFile, file_id: int, ctx: DumpContext) -> Message:
    """The reg_file_entry of a terminal. A slave needs no search for it: devpts makes the name, and takes it away when
    the master is closed."""
    from engine.images.schema import message

    if not terminal.is_slave(file.stat.st_rdev):
        return describe_path(ctx, target_of(file), file_id, file.flags)
    entry = message("reg_file_entry")(id=file_id, flags=file.flags, pos=0, mode=file.stat.st_mode)
    set_text(entry, "name", file.link.removesuffix(DELETED))
    fown.clear(entry.fown)
    return entry
