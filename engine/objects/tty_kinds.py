"""Kinds of terminals, and one as a dump knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.objects.base import OpenFile

PTY, CONSOLE, VT, CTTY, EXT_TTY, SERIAL = 1, 2, 3, 4, 5, 6
"""TtyType of the schema."""


def external_key(device: int, file_system: int) -> str:
    """By what key --external and --inherit-fd call a terminal: st_rdev and st_dev of its inode."""
    return f"tty[{device:x}:{file_system:x}]"


class Terminal:
    """One terminal.

    kind        its TtyType
    device      what the slave's descriptors show; of a pseudo terminal it is 136:INDEX
    number      what its tty_info_entry are numbered by
    masters     the description of the master, none where that is not in the tree
    slaves      all others, but for those of /dev/tty
    hung_up     the master is closed
    is_current  a description of /dev/tty stands for it
    """

    def __init__(self, kind: int, device: int, number: int) -> None:
        self.kind = kind
        self.device = device
        self.number = number
        self.masters: list[OpenFile] = []
        self.slaves: list[OpenFile] = []
        self.hung_up = False
        self.is_current = False

    @property
    def master(self) -> OpenFile | None:
        return next(iter(self.masters), None)

    @property
    def slave_id(self) -> int:
        return self.number << 1

    @property
    def master_id(self) -> int:
        return self.number << 1 | 1

    @property
    def is_outside(self) -> bool:
        """Whether it is a pseudo terminal that somebody else has the master of."""
        return self.kind in (PTY, EXT_TTY) and self.master is None and not self.hung_up

    def descriptor(self) -> int | None:
        """A descriptor of ours that answers for it."""
        file = self.master or next(iter(self.slaves), None)
        return file.copy if file and not self.hung_up else None
