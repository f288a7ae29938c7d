"""The terminals of a restore. All are made at once, with what is queued in them, before any session is born: then none
of this has to do with job control, and no signal is sent.

    pseudo terminals       both sides from one new master; of a hung up one the master is closed again,
                           and of an orphan it may be handed over to a client (orphan_pts_master)
    the user's             given by --inherit-fd, for what --external named
    the engine's           in the place of the one of a shell outside of the tree (--shell-job)
    the machine's          console, virtual and serial ones are opened by their names
    /dev/tty               for any of them (tty_current.py)
"""

from __future__ import annotations

import fcntl
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text
from engine.kernel import terminal
from engine.objects import tty_outside, tty_pty, tty_queue, tty_settings
from engine.objects.external import inherited
from engine.objects.paths import stat_name
from engine.objects.regular import open_entry
from engine.objects.status_flags import O_LARGEFILE
from engine.objects.tty_current import open_current, open_hung_up
from engine.objects.tty_images import Pty, TerminalImages
from engine.objects.tty_kinds import CONSOLE, CTTY, EXT_TTY, PTY, SERIAL, external_key

if TYPE_CHECKING:
    from engine.restore_context import RestoreContext

Message = Any

_PATIENCE_MS = 1000


class RestoredTerminals:
    """The engine's descriptors of all terminals."""

    def __init__(self, ctx: RestoreContext) -> None:
        self._ctx = ctx
        self._images = ctx.part(TerminalImages)
        self._made: dict[int, int] = {}
        self._handles: dict[int, int] = {}
        self._is_made = False
        ctx.at_end(self._close)

    def take(self, entry: Message) -> int:
        """The description of an entry."""
        self.make()
        return self._made.pop(entry.id)

    def handle(self, info: Message) -> int:
        """A descriptor of ours for a terminal, by which a task can take it. info: a tty_info_entry of it."""
        return self._handles[info.id]

    def make(self) -> None:
        """Make all terminals, once."""
        if self._is_made:
            return
        self._is_made = True
        ptys = [pty for pty in self._images.ptys if pty.is_inside]
        masters = self._open_masters(ptys)
        for pty in ptys:
            self._make_pty(pty, masters)
        made = [info for pty in ptys for info in (pty.master, pty.slave)]
        for info in self._images.infos.values():
            if info.type != CTTY and info not in made:
                self._make_other(info)
        for info in self._images.of_type(CTTY):
            for entry in self._images.files[info.id]:
                self._made[entry.id] = self._open_current(info, entry)
        for pty in ptys:
            self._seal(pty, masters[pty.index])

    def _open_masters(self, ptys: list[Pty]) -> dict[int, int]:
        wanted: dict[str, set[int]] = {}
        for pty in ptys:
            wanted.setdefault(self._images.ptmx_name(pty), set()).add(pty.index)
        masters: dict[int, int] = {}
        for name, indices in wanted.items():
            masters |= tty_pty.open_masters(name, indices)
        return masters

    # Pseudo terminals

    def _make_pty(self, pty: Pty, masters: dict[int, int]) -> None:
        """Master, slaves, queues and settings. What would be in the way of opening slaves comes in _seal()."""
        if pty.master is not None:
            (entry,) = self._images.files[pty.master.id]
            name = self._images.ptmx_name(pty)
            self._made[entry.id] = masters[pty.index] = tty_pty.with_mode(masters[pty.index], name, entry.flags)
        master = masters[pty.index]
        if pty.slave is not None or pty.info.sid or pty.info.slave_closed:
            self._open_slaves(pty, master)
        if not pty.hung_up:
            slave = self._handles.get(pty.info.id, master)
            self._fill(pty, master, slave)
            if pty.info.HasField("termios_locked"):
                terminal.set_locked_modes(slave, tty_settings.modes_of(pty.info.termios_locked))
            tty_settings.restore_window(pty.info, slave)

    def _open_slaves(self, pty: Pty, master: int) -> None:
        """A handle of our own, and the tree's descriptions."""
        peer = terminal.open_peer(master, os.O_RDWR | os.O_NONBLOCK)
        for info in (pty.master, pty.slave):
            if info is not None:
                self._handles[info.id] = os.dup(peer)
        for entry in self._images.files[pty.slave.id] if pty.slave is not None else ():
            path = self._images.path(entry)
            self._made[entry.id] = self._open_slave(path, entry.flags, master, peer)
            tty_settings.restore_owner(pty.slave, path, peer)
        os.close(peer)

    def _open_slave(self, path: Message, flags: int, master: int, peer: int) -> int:
        """By its name, which may be a bind mount's, or as openpty(3) does, without. Then the flags show it."""
        try:
            named = os.path.samestat(stat_name(get_text(path.name)), os.fstat(peer))
        except OSError:
            named = False
        if named and flags & O_LARGEFILE:
            return open_entry(path, flags, self._ctx)
        fd = terminal.open_peer(master, flags & (os.O_ACCMODE | O_LARGEFILE))
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        return fd

    def _fill(self, pty: Pty, master: int, slave: int) -> None:
        """Queues and modes. A slave that was never open has only modes, which the master sets, too."""
        has_modes = pty.info.HasField("termios")
        modes = tty_settings.modes_of(pty.info.termios) if has_modes else terminal.modes(master)
        queued = self._images.queued(pty, tty_queue.is_canonical(modes))
        if not queued or slave == master:
            terminal.set_modes(slave, modes)
            return
        flags = fcntl.fcntl(master, fcntl.F_GETFL)
        fcntl.fcntl(master, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        tty_queue.put(master, slave, modes, queued, _PATIENCE_MS)
        fcntl.fcntl(master, fcntl.F_SETFL, flags)

    def _seal(self, pty: Pty, master: int) -> None:
        """What keeps others from opening the slave, and the end of a master that is closed."""
        if pty.hung_up:
            os.close(master)
            return
        if pty.slave is not None and pty.slave.exclusive:
            terminal.set_exclusive(self._handles[pty.slave.id], True)
        if pty.is_handed_over:
            self._hand_over(pty, master)
            return
        if pty.master.exclusive:
            terminal.set_exclusive(master, True)
        if pty.master.packet_mode:
            terminal.set_packet_mode(master, True)
        terminal.set_locked(master, pty.master.locked)

    def _hand_over(self, pty: Pty, master: int) -> None:
        """Give a master to the client, who is to hold it from now on."""
        client = self._ctx.opts.client
        assert client is not None
        fcntl.fcntl(master, fcntl.F_SETFL, os.O_RDWR)
        taken = client.hand_over_master(master)
        os.close(master)
        if not taken:
            raise CrError(f"terminal /dev/pts/{pty.index}: the client does not take its master")

    # Others

    def _make_other(self, info: Message) -> None:
        """A terminal that is there already. The console is everybody's, its modes are none of the tree's."""
        entries = self._images.files[info.id]
        for entry in entries:
            self._made[entry.id] = self._open_other(info, entry)
        if entries:
            handle = os.dup(self._made[entries[0].id])
        else:
            handle = self._given(info) if info.type == EXT_TTY else tty_outside.open_in_place(os.O_RDWR)
        self._handles[info.id] = handle
        if info.type in (EXT_TTY, SERIAL):
            tty_settings.restore_window(info, handle)
        if info.type != CONSOLE and info.HasField("termios"):
            self._ctx.on_success(partial(tty_outside.set_modes, handle, tty_settings.modes_of(info.termios)))

    def _open_other(self, info: Message, entry: Message) -> int:
        if info.type == EXT_TTY:
            return self._given(info)
        if info.type == PTY:
            return tty_outside.open_in_place(entry.flags)
        return open_entry(self._images.path(entry), entry.flags, self._ctx)

    def _given(self, info: Message) -> int:
        """The user's descriptor in the place of an external terminal."""
        key = external_key(info.rdev, info.dev)
        fd = inherited(self._ctx, key)
        if fd is None:
            raise CrError(f"{key}: this terminal is external, and none is given for it")
        return fd

    def _open_current(self, info: Message, entry: Message) -> int:
        name = self._images.name(entry)
        if not info.HasField("termios"):
            return open_hung_up(name, entry.flags)
        behind = self._images.behind(entry)
        if behind is None:
            return open_entry(self._images.path(entry), entry.flags, self._ctx)
        return open_current(self._handles[behind.id], name, entry.flags)

    def _close(self) -> None:
        """What turned out to be nobody's, and the handles."""
        for fd in (*self._made.values(), *self._handles.values()):
            os.close(fd)
        self._made.clear()
        self._handles.clear()
