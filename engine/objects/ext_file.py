"""Files that a plugin dumps and makes again (engine/plugins): what the engine would have to refuse.

The plugin tells what is to be remembered of a file when it is asked whether it can dump it, while all tasks stand and
nothing has been changed; the image keeps that. Flags and owner of the description are the engine's matter.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.images.text import get_text
from engine.objects.base import FileKind
from engine.objects.status_flags import set_flags

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

LARGEST_STATE = 64 << 20


class ExtFile(FileKind):
    """EXT."""

    type = 16
    field = "ext"

    def recognise(self, file: OpenFile) -> bool:
        return False  # Other kinds offer what they would refuse: take().

    def dump(self, file: OpenFile, ctx: DumpContext) -> Message:
        from engine.images.schema import message

        name, state = ctx.part(_Taken).states[file.id]
        entry = message("ext_file_entry")(id=file.id, flags=file.flags)
        entry.plugin.name, entry.plugin.state = name, state
        return entry

    def check(self, entry: Message, ctx: RestoreContext) -> None:
        check_plugin(entry, f"file {entry.id}", "RESTORE_EXT_FILE", ctx)

    def open(self, entry: Message, ctx: RestoreContext) -> int:
        fd = make_again(entry, f"file {entry.id}", "RESTORE_EXT_FILE", ctx)
        set_flags(fd, entry.flags)
        return fd


EXT_FILE = ExtFile()


class _Taken:
    """What plugins want to remember, with their names, by the number of the file."""

    def __init__(self, _: DumpContext) -> None:
        self.states: dict[int, tuple[str, bytes]] = {}


# Dump


def take(file: OpenFile, ctx: DumpContext) -> bool:
    """Offer a file that is going to be refused to the plugins. True: there is nothing more to be said about it, since
    one of them dumps it, or has failed to, which stands among the problems."""
    if file.flags & os.O_PATH or not ctx.plugins.having("DUMP_EXT_FILE"):
        return False
    with ctx.problems:
        taken = state_of(file, "DUMP_EXT_FILE", ctx, ctx.file_id(file))
        if taken is None:
            return False
        ctx.part(_Taken).states[file.id] = taken
        file.kind = EXT_FILE
    return True


def state_of(file: OpenFile, hook: str, ctx: DumpContext, number: int) -> tuple[str, bytes] | None:
    """(plugin, what it wants to remember) of a description; None: no plugin knows it. Raises CrError.

    The plugin gets a descriptor of its own: objects of Python like to close those that they are made from.
    """
    about = f"{file} of task {file.task.pid}"
    lent = os.dup(file.copy)
    try:
        found = ctx.plugins.ask(hook, about, lent, number)
    finally:
        with suppress(OSError):
            os.close(lent)
    if found is None:
        return None
    plugin, state = found
    if not isinstance(state, bytes) or len(state) > LARGEST_STATE:
        what = f"{len(state)} bytes, more than {LARGEST_STATE}" if isinstance(state, bytes) else f"{state!r}, not bytes"
        raise plugin.error(hook, about, f"returned {what}")
    return plugin.name, state


# Restore


def check_plugin(entry: Message, what: str, hook: str, ctx: RestoreContext) -> None:
    """Add to the problems that no plugin is there that could make an object again."""
    name = _plugin_of(entry)
    if name not in ctx.missing_plugins and not ctx.plugins.having(hook, name):
        who = f"plugin {name!r}, which has dumped it," if name is not None else "a plugin with that hook"
        ctx.problems.add(f"{what}: hook {hook} of {who} is needed to restore it", remedy="see --libdir")


def make_again(entry: Message, what: str, hook: str, ctx: RestoreContext) -> int:
    """Have a plugin make an object again: a descriptor, close-on-exec. Raises CrError.

    Images of other engines don't tell by which plugin, nor what it has remembered: then all are asked.
    """
    state = bytes(entry.plugin.state) if entry.HasField("plugin") else None
    found = ctx.plugins.ask(hook, what, state, entry.id, name=_plugin_of(entry))
    if found is None:
        raise CrError(f"{what}: no plugin has made it again (hook {hook})")
    plugin, fd = found
    try:
        if not isinstance(fd, int):
            raise plugin.error(hook, what, f"returned {fd!r}, not a descriptor")
        os.set_inheritable(fd, False)
    except OSError as error:
        raise plugin.error(hook, what, f"returned descriptor {fd}: {error.strerror}") from error
    return fd


def _plugin_of(entry: Message) -> str | None:
    return get_text(entry.plugin.name) if entry.HasField("plugin") else None
