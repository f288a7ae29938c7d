"""What belongs to somebody outside of the tree: named by --external at the dump, passed by --inherit-fd at the restore.

Both options name an object by a key. Kinds of files ask here, each for the keys of its own objects:

    pipe:[INO]           a pipe one end of which is outside; only the restore has to name it
    unix[INO]            at the dump: a unix socket, or its peer; at the restore: it shall lose its peer
    socket:[INO]         at the restore: the unix socket
    file[MNT_ID:INO]     a file that no path leads to; mnt_id as in fdinfo; hexadecimal
    tty[RDEV:DEV]        a terminal, by st_rdev and st_dev; hexadecimal
    /memfd:NAME          memory of that name
    PATH                 a file by its path, without the slash at the beginning

A description that is passed takes the place of the dumped one as it is: its offset and what it leads to are the
business of whoever passes it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine import log

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.restore_context import RestoreContext


def is_external(ctx: DumpContext | RestoreContext, *keys: str) -> bool:
    """Whether the user has called an object external by one of its keys (--external)."""
    return any(key in ctx.opts.external for key in keys)


def is_inherited(ctx: RestoreContext, *keys: str) -> bool:
    """Whether the user passes a descriptor for one of these keys (--inherit-fd)."""
    return ctx.part(_Inherited).number(keys) is not None


def inherited(ctx: RestoreContext, *keys: str) -> int | None:
    """A copy of the descriptor that the user passes for one of these keys, close-on-exec; None if there is none."""
    number = ctx.part(_Inherited).number(keys)
    return None if number is None else os.dup(number)


def check_descriptors(ctx: RestoreContext) -> None:
    """Add to the problems which of the passed descriptors are not there."""
    for number, key in ctx.opts.inherit_fd:
        try:
            os.fstat(number)
        except OSError as error:
            ctx.problems.add(f"--inherit-fd fd[{number}]:{key}: {error.strerror}", remedy="open it for the engine")


def warn_unclaimed(ctx: RestoreContext) -> None:
    """Say which of the passed descriptors are for nothing in the images: the key may be misspelt."""
    claimed = ctx.part(_Inherited).claimed
    for number, key in ctx.opts.inherit_fd:
        if key not in claimed:
            log.warn(f"--inherit-fd fd[{number}]:{key}: the images have nothing of that key")


class _Inherited:
    """The table of --inherit-fd. The first use of a key wins.

    claimed  keys that something in the images has asked for
    """

    def __init__(self, ctx: RestoreContext) -> None:
        self._numbers: dict[str, int] = {}
        for number, key in ctx.opts.inherit_fd:
            self._numbers.setdefault(key, number)
        self.claimed: set[str] = set()

    def number(self, keys: tuple[str, ...]) -> int | None:
        for key in keys:
            if key in self._numbers:
                self.claimed.add(key)
                return self._numbers[key]
        return None
