"""Unix sockets whose peer is outside of the tree, and which a plugin connects again (engine/plugins)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.objects.ext_file import state_of

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile

Message = Any

CALLBACK = 4
"""unix_sk_entry.uflags: a plugin has dumped it."""


class DumpedByPlugins:
    """Which sockets plugins have taken."""

    def __init__(self, ctx: DumpContext) -> None:
        self._ctx = ctx
        self._states: dict[int, tuple[str, bytes] | None] = {}

    def offer(self, file: OpenFile) -> bool:
        """Offer a socket to the plugins, once. True: nothing more is to be said about its peer, since one of them dumps
        it, or has failed to, which stands among the problems."""
        ctx = self._ctx
        number = ctx.file_id(file) if ctx.plugins.having("DUMP_UNIX_SK") else 0
        if not number:
            return False
        if number not in self._states:
            with ctx.problems:
                self._states[number] = state_of(file, "DUMP_UNIX_SK", ctx, number)
        return self._states.get(number, ()) is not None

    def describe(self, entry: Message) -> None:
        """Put what a plugin has remembered into the message of a socket."""
        taken = self._states.get(entry.id)
        if taken is not None:
            entry.uflags |= CALLBACK
            entry.plugin.name, entry.plugin.state = taken
