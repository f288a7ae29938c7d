"""What images have of terminals: tty-info.img, tty-data.img and the descriptions in files.img, put together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from engine.images.text import get_text
from engine.objects import tty_pty
from engine.objects.tty_kinds import CTTY, PTY
from engine.objects.tty_queue import Queued

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext

Message = Any


class Pty:
    """A pseudo terminal to be.

    master, slave  tty_info_entry of its sides, None for one that nothing refers to
    is_wanted      a client wants to have the master if the tree has not (docs/rpc.md)
    """

    def __init__(self, index: int, is_wanted: bool = False) -> None:
        self.index = index
        self.is_wanted = is_wanted
        self.master: Message = None
        self.slave: Message = None

    @property
    def info(self) -> Message:
        """The side that has the settings."""
        return self.master or self.slave

    @property
    def hung_up(self) -> bool:
        return self.master is None and not self.slave.HasField("termios")

    @property
    def is_inside(self) -> bool:
        """Whether the engine makes it: the tree has the master, or had it, or it is handed over."""
        return self.master is not None or self.hung_up or self.is_wanted

    @property
    def is_handed_over(self) -> bool:
        """Whether the master goes to the client."""
        return self.is_wanted and self.master is None and not self.hung_up


class TerminalImages:
    """infos   tty_info_entry by id
    files      tty_file_entry by tty_info_id
    """

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._pids = {task.pid for task in ctx.tasks}
        self.infos: dict[int, Message] = {entry.id: entry for entry in _read(ctx, "TTY_INFO")}
        self._data = {entry.tty_id: entry for entry in _read(ctx, "TTY_DATA")}
        self.files: dict[int, list[Message]] = {number: [] for number in self.infos}
        for entry in ctx.entries.values():
            if entry.HasField("tty") and entry.tty.tty_info_id in self.files:
                self.files[entry.tty.tty_info_id].append(entry.tty)
        self.ptys = self._pair()

    def _pair(self) -> list[Pty]:
        found: dict[int, Pty] = {}
        client = self._ctx.opts.client
        is_wanted = client is not None and client.orphan_pts_master
        for info in self.of_type(PTY):
            pty = found.setdefault(info.pty.index, Pty(info.pty.index, is_wanted))
            if info.id & 1:
                pty.master = info
            else:
                pty.slave = info
        return list(found.values())

    def of_type(self, kind: int) -> list[Message]:
        """The tty_info_entry of a TtyType."""
        return [info for info in self.infos.values() if info.type == kind]

    def path(self, entry: Message) -> Message:
        """The reg_file_entry of a description."""
        return self._ctx.entries[entry.regf_id].reg

    def name(self, entry: Message) -> str:
        """Of a description."""
        return get_text(self.path(entry).name)

    def ptmx_name(self, pty: Pty) -> str:
        """Of the device that makes the master. A hung up slave tells only its own name, beside which there is one."""
        if pty.master is not None:
            return self.name(self.files[pty.master.id][0])
        return os.path.dirname(self.name(self.files[pty.slave.id][0])) + "/ptmx"

    def slave_name(self, pty: Pty) -> str:
        """Of a pseudo terminal whose ptmx device is there. Raises OSError when it is not."""
        return f"{tty_pty.directory_of(self.ptmx_name(pty))}/{pty.index}"

    def is_replaced(self, info: Message) -> bool:
        """Whether it is the terminal of a session outside of the tree, in whose place comes the engine's."""
        outside = any(info is pty.slave and not pty.is_inside for pty in self.ptys)
        return outside and info.sid not in self._pids

    def controlling(self) -> dict[int, Message]:
        """For each session that has a terminal, the tty_info_entry of that."""
        found: dict[int, Message] = {}
        for info in self.infos.values():
            if info.sid and info.type != CTTY:
                found.setdefault(info.sid, info)
        return found

    def behind(self, entry: Message) -> Message | None:
        """tty_info_entry of the terminal behind a description of /dev/tty, None for that of a session outside.

        Images of other engines do not tell: then it is that of the session of the first task that has it open.
        """
        if entry.HasField("current_id"):
            info = self.infos.get(entry.current_id) or self.infos.get(entry.current_id | 1)
        else:
            user = next((t for t in self._ctx.tasks if any(held.id == entry.id for held in t.fdinfo)), None)
            info = self.controlling().get(user.sid) if user else None
        return None if info is None or self.is_replaced(info) else info

    def queued(self, pty: Pty, canonical: bool) -> Queued:
        """What is to be put into a terminal. Where the image does not tell lines, newlines do."""
        number = pty.info.id & ~1
        typed, written = self._data.get(number), self._data.get(number | 1)
        output = written.data if written else b""
        if typed is None:
            return Queued([], b"", output)
        data, lines = typed.data, []
        lengths = list(typed.lines)
        if canonical and not lengths and not typed.HasField("flow"):
            lengths = [len(line) + 1 for line in data.split(b"\n")[:-1]]
        for length in lengths:
            lines.append(data[:length])
            data = data[length:]
        return Queued(lines, data, output, typed.flow)


def _read(ctx: RestoreContext, kind: str) -> list[Message]:
    return list(ctx.images.read(kind)) if ctx.images.exists(kind) else []
