"""The terminals of a tree that is dumped: which descriptions belong to which, who they control, what stands in images.

A pseudo terminal has two sides, each with a tty_info_entry of its own. A description of /dev/tty is one more of the
slave that it was opened for, which TIOCGDEV tells. Whom a terminal controls is known from its master, or else from
those it controls: /proc/PID/stat has the device and the foreground group.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any

from engine import log
from engine.kernel import terminal
from engine.kernel.pty_holder import holder_of_master
from engine.objects import tty_peek, tty_pty, tty_settings
from engine.objects.external import is_external
from engine.objects.tty_kinds import CONSOLE, CTTY, EXT_TTY, PTY, SERIAL, VT, Terminal, external_key

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile

Message = Any

_NUMBERS = {CONSOLE: 1002, VT: 1004, CTTY: 1006, SERIAL: 1010}
_FIRST_FREE_NUMBER = 1013
_HIGH_INDEX, _HIGH_INDEX_NUMBER = 1000, 3000
"""Pseudo terminals from this index on are numbered from there: below are the numbers of the others."""


class DumpedTerminals:
    """All of them. Descriptions are added one by one; those of /dev/tty are understood when all are known."""

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._terminals: dict[int, Terminal] = {}
        self._files: dict[int, OpenFile] = {}
        self._numbers: set[int] = set()
        self._current: list[OpenFile] = []

    # Collecting

    def add(self, file: OpenFile) -> None:
        """Take note of a description, once."""
        if id(file) in self._files:
            return
        self._files[id(file)] = file
        device = file.stat.st_rdev
        if device == terminal.CURRENT:
            self._current.append(file)
        elif device == terminal.PTMX:
            self._terminal(os.makedev(136, terminal.pty_index(file.copy))).masters.append(file)
        else:
            found = self._terminal(device)
            found.slaves.append(file)
            found.hung_up = terminal.is_slave(device) and terminal.is_hung_up(file.copy)

    def _terminal(self, device: int) -> Terminal:
        if device not in self._terminals:
            kind = PTY
            if not terminal.is_slave(device):
                kind = CONSOLE if device == terminal.CONSOLE else VT if terminal.is_virtual(device) else SERIAL
            self._terminals[device] = Terminal(kind, device, self._number(kind, os.minor(device)))
        return self._terminals[device]

    def _number(self, kind: int, index: int) -> int:
        number = _NUMBERS.get(kind, index if index < _HIGH_INDEX else index - _HIGH_INDEX + _HIGH_INDEX_NUMBER)
        if number in self._numbers or kind == EXT_TTY:
            number = _FIRST_FREE_NUMBER
            while number in self._numbers:
                number += 1
        self._numbers.add(number)
        return number

    def add_controlling(self) -> None:
        """Terminals that control a session of the tree and that nobody in it has open."""
        for task in self._ctx.tasks:
            device = _controlled(task)
            if task.pid != task.sid or not device or device in self._terminals:
                continue
            if terminal.is_slave(device):
                self._terminal(device)
            else:
                what = f"nobody in the tree has the controlling terminal of its session, {_name(device)}, open"
                self._ctx.problems.add(what, task.pid, "open it there")

    def accept_external(self) -> None:
        """Those that the user says will be there again (--external)."""
        for found in self._terminals.values():
            if found.is_outside and self._external_key(found):
                found.kind = EXT_TTY
                found.number = self._number(EXT_TTY, 0)

    def _external_key(self, found: Terminal) -> str | None:
        """The user's key for a terminal. Without a descriptor nobody knows its file system: then any will do."""
        if found.slaves:
            key = external_key(found.device, found.slaves[0].stat.st_dev)
            return key if is_external(self._ctx, key) else None
        start = f"tty[{found.device:x}:"
        return next((key for key in self._ctx.opts.external if key.startswith(start)), None)

    # What stands against it

    def refuse(self) -> None:
        """All are known now."""
        self.add_controlling()
        self.accept_external()
        for found in self._terminals.values():
            self._refuse_outside(found)
            self._refuse_state(found)
        for file in self._current:
            if not terminal.is_hung_up(file.copy) and not self._is_found(terminal.device_behind(file.copy)):
                what = f"{file}: stands for {_name(terminal.device_behind(file.copy))}, which is not in the tree"
                self._ctx.problems.add(what, file.task.pid, "use --shell-job if it is the terminal of a shell outside")

    def _is_found(self, device: int) -> bool:
        return device in self._terminals or self._ctx.opts.shell_job

    def _refuse_outside(self, found: Terminal) -> None:
        client = self._ctx.opts.client
        if not found.is_outside or found.kind == EXT_TTY or self._ctx.opts.shell_job:
            return
        if client is not None and client.orphan_pts_master:
            return
        where = f"has its master outside of the tree, in {holder_of_master(os.minor(found.device))}"
        remedy = "dump it in one tree with that, or use --shell-job to have the terminal of the restore in its place"
        if found.slaves:
            file = found.slaves[0]
            remedy += f", or --external {external_key(found.device, file.stat.st_dev)}"
            self._ctx.problems.add(f"{file}: this terminal {where}", file.task.pid, remedy)
            return
        leader = next(task for task in self._ctx.tasks if task.pid == task.sid and _controlled(task) == found.device)
        self._ctx.problems.add(f"its terminal, {_name(found.device)}, {where}", leader.pid, remedy)

    def _refuse_state(self, found: Terminal) -> None:
        problems, files = self._ctx.problems, [file for file in (found.master, *found.slaves) if file]
        if found.kind == PTY and (len(found.masters) > 1 or len({*map(_file_system, files)}) > 1):
            what = f"{files[-1]}: two mounts of devpts have terminals of this name in use"
            problems.add(what, files[-1].task.pid, "close one of them")
        for file in files if not found.hung_up else ():
            if not terminal.has_lines(file.copy):
                what = f"{file}: the line discipline of this terminal is not the usual one"
                problems.add(what, file.task.pid, "detach what has set it (slattach, pppd, ldattach…)")
        master = found.master
        if master and terminal.in_packet_mode(master.copy) and terminal.events(master.copy, select.POLLPRI):
            what = f"{master}: news of packet mode have not been read"
            problems.add(what, master.task.pid, "let the task read them")

    # Describing

    def info_id(self, file: OpenFile) -> int:
        """tty_info_id of a description."""
        self.add(file)
        if file.stat.st_rdev == terminal.CURRENT:
            return (_NUMBERS[CTTY] + terminal.is_hung_up(file.copy)) << 1
        if file.stat.st_rdev == terminal.PTMX:
            return self._terminal(os.makedev(136, terminal.pty_index(file.copy))).master_id
        return self._terminal(file.stat.st_rdev).slave_id

    def current_id(self, file: OpenFile) -> int | None:
        """tty_info_id of the terminal behind a description of /dev/tty; None: the one of a session outside, or none."""
        if terminal.is_hung_up(file.copy):
            return None
        found = self._terminals.get(terminal.device_behind(file.copy))
        if found is None or (found.is_outside and self._session(found)[0] not in {t.pid for t in self._ctx.tasks}):
            return None
        found.is_current = True
        return found.slave_id

    def write(self) -> None:
        """tty-info.img and tty-data.img."""
        with self._ctx.images.writer("TTY_INFO") as image:
            for found in self._terminals.values():
                for entry in self._infos(found):
                    image.put(entry)
            for hung_up in (False, True):
                files = [file for file in self._current if terminal.is_hung_up(file.copy) == hung_up]
                if files:
                    image.put(self._current_info(files[0], hung_up))
        pairs = [pair for found in self._terminals.values() if (pair := self._pair(found))]
        if pairs:
            with self._ctx.images.writer("TTY_DATA") as image:
                if data := tty_peek.peek(pairs):
                    image.put_payload(data)

    def _session(self, found: Terminal) -> tuple[int, int]:
        """(session, foreground group), (0, 0) for none."""
        if found.master:
            return terminal.session_by_master(found.master.copy)
        for task in self._ctx.tasks:
            if _controlled(task) == found.device:
                return task.sid, max(task.stat.tpgid, 0)
        return 0, 0

    def _infos(self, found: Terminal) -> list[Message]:
        """Its tty_info_entry. A slave that nobody has open gets one if something refers to it."""
        entries = []
        if found.master:
            entry = self._info(found, found.master_id)
            tty_settings.describe_file(entry, found.master)
            entry.locked = terminal.is_locked(found.master.copy)
            entry.packet_mode = terminal.in_packet_mode(found.master.copy)
            entry.exclusive = terminal.is_exclusive(found.master.copy)
            if terminal.events(found.master.copy, 0) & select.POLLHUP:
                entry.slave_closed = True
            entries.append(entry)
        if found.slaves or found.is_current or not found.master:
            entry = self._info(found, found.slave_id)
            entry.rdev = found.device
            if found.slaves:
                tty_settings.describe_file(entry, found.slaves[0])
                entry.exclusive = not found.hung_up and terminal.is_exclusive(found.slaves[0].copy)
            entries.append(entry)
        return entries

    def _info(self, found: Terminal, number: int) -> Message:
        from engine.images.schema import message

        entry = message("tty_info_entry")(id=number, type=found.kind, locked=False, exclusive=False, packet_mode=False)
        entry.sid, entry.pgrp = self._session(found)
        if found.kind == PTY:
            entry.pty.index = os.minor(found.device)
        fd = found.descriptor()
        if fd is not None:
            tty_settings.describe(entry, fd)
        return entry

    def _current_info(self, file: OpenFile, hung_up: bool) -> Message:
        from engine.images.schema import message

        entry = message("tty_info_entry")(id=self.info_id(file), type=CTTY, locked=False, exclusive=False)
        entry.packet_mode, entry.sid, entry.pgrp = False, 0, 0
        tty_settings.describe_file(entry, file)
        if not hung_up:
            tty_settings.describe(entry, file.copy)
            found = self._terminals.get(terminal.device_behind(file.copy))
            if found:
                entry.sid, entry.pgrp = self._session(found)
        return entry

    def _pair(self, found: Terminal) -> tty_peek.Pair | None:
        """What to look into, None where there is nothing to be seen."""
        if not found.master or found.master.flags & os.O_ACCMODE != os.O_RDWR:
            return None
        master = found.master.copy
        if not found.slaves and not terminal.events(master, 0) & select.POLLHUP and not found.is_current:
            log.warn(
                f"task {found.master.task.pid}: {found.master}: what was written to it is not looked for, as no task "
                "of the tree has the slave open"
            )
            return None
        if not tty_peek.may_have_data(master, found.slaves[0].copy if found.slaves else None):
            return None
        return tty_peek.Pair(master, found.slave_id, found.master_id)


def _controlled(task: Any) -> int:
    """The device of a task's controlling terminal, 0 for none."""
    return terminal.device_of_stat(task.stat.tty_nr)


def _file_system(file: OpenFile) -> int:
    """The devpts that a master or slave belongs to."""
    is_master = file.stat.st_rdev == terminal.PTMX
    return os.stat(tty_pty.directory_of(file.link)).st_dev if is_master else file.stat.st_dev


def _name(device: int) -> str:
    if terminal.is_slave(device):
        return f"/dev/pts/{os.minor(device)}"
    return f"terminal {os.major(device)}:{os.minor(device)}"
