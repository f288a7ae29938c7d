"""Plugins: code of the user's for objects that this engine does not know. docs/plugins.md tells how to write one.

A plugin is any object that has functions of the hooks' names in small letters, mostly a module. They are loaded when a
verb begins, before any task is touched, and told of its end whatever that is. Nothing here is loaded by a run without
plugins but this module.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from engine.options import Options

HOOKS = (
    "DUMP_UNIX_SK",
    "RESTORE_UNIX_SK",
    "DUMP_EXT_FILE",
    "RESTORE_EXT_FILE",
    "HANDLE_DEVICE_VMA",
    "UPDATE_VMA_MAP",
    "RESUME_DEVICES_LATE",
    "PAUSE_DEVICES",
    "CHECKPOINT_DEVICES",
    "POST_FORKING",
    "RESTORE_INIT",
    "DUMP_DEVICES_LATE",
)
"""The names are the field's."""
NEVER_CALLED = ("DUMP_EXT_MOUNT", "RESTORE_EXT_MOUNT", "DUMP_EXT_LINK")
"""Hooks of the field for mounts and network devices, which this engine does not dump."""


class Plugin:
    """One plugin.

    name    by which images and messages call it
    origin  where it came from: a path, or the value of an entry point
    code    the object with the hooks
    """

    def __init__(self, name: str, origin: str, code: Any) -> None:
        self.name = name
        self.origin = origin
        self.code = code

    def has(self, hook: str) -> bool:
        return callable(getattr(self.code, hook.lower(), None))

    def call(self, hook: str, about: str, *arguments: object) -> Any:
        """What the hook returns, None if there is none. about: the object, for messages. CrError for all it raises."""
        function = getattr(self.code, hook.lower(), None)
        if function is None:
            return None
        log.debug(f"plugin {self.name}: {hook} for {about}")
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:
            raise self.error(hook, about, _said(error)) from error

    def error(self, hook: str, about: str, what: str) -> CrError:
        """Something is wrong with what a hook has done."""
        return CrError(f"plugin {self.name}, hook {hook}, {about}: {what}")


def _said(error: BaseException) -> str:
    """An exception of somebody else's code in one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, CrError) else f"{type(error).__name__}: {text}" if text else type(error).__name__


class Plugins:
    """The plugins of one run, in the order of their names.

    used     names of those without which the images can't be restored
    failure  why the verb has failed, where that raises nothing
    """

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self._plugins = sorted(plugins, key=lambda plugin: plugin.name)
        self._begun: list[Plugin] = []
        self.used: set[str] = set()
        self.failure: CrError | None = None

    @property
    def names(self) -> set[str]:
        return {plugin.name for plugin in self._plugins}

    def having(self, hook: str, name: str | None = None) -> list[Plugin]:
        """Those that have a hook; name: of the one that is meant."""
        return [plugin for plugin in self._plugins if plugin.has(hook) and name in (None, plugin.name)]

    def ask(self, hook: str, about: str, *arguments: object, name: str | None = None) -> tuple[Plugin, Any] | None:
        """The first of them that returns something else than None, which the images need from now on, and what that is.
        name: of the only one to be asked. Raises CrError."""
        for plugin in self.having(hook, name):
            answer = plugin.call(hook, about, *arguments)
            if answer is not None:
                self.used.add(plugin.name)
                return plugin, answer
        return None

    def tell(self, hook: str, about: str, *arguments: object) -> None:
        """Call the hook of all of them. Those that return True are needed for the restore. Raises CrError."""
        for plugin in self.having(hook):
            if plugin.call(hook, about, *arguments):
                self.used.add(plugin.name)

    def pause(self, pid: int) -> None:
        """A task is about to be stopped. Raises CrError."""
        self.tell("PAUSE_DEVICES", f"task {pid}", pid)

    def begin(self, stage: str, images_dir: int) -> None:
        """Call init. Raises CrError."""
        for plugin in self._plugins:
            plugin.call("init", f"stage {stage}", stage, images_dir)
            self._begun.append(plugin)

    def end(self, stage: str, failure: BaseException | None) -> None:
        """Call fini, last first, of those whose init has worked. The verb is over: what goes wrong is only logged."""
        for plugin in reversed(self._begun):
            try:
                plugin.call("fini", f"stage {stage}", stage, failure or self.failure)
            except CrError as error:
                log.warn(error.message)
        self._begun.clear()


@contextmanager
def running(opts: Options, stage: str) -> Iterator[Plugins]:
    """The plugins of a verb, between init and fini. stage: "dump", "pre-dump" or "restore". Raises CrError."""
    from engine.plugins.sources import load

    plugins = Plugins(load(opts, stage))
    failure: BaseException | None = None
    try:
        plugins.begin(stage, opts.images_dir_fd)
        yield plugins
    except BaseException as error:
        failure = error
        raise
    finally:
        plugins.end(stage, failure)
