"""Where plugins come from: files NAME.py in the plugin directory (--libdir), and installed packages that say so.

Plugins run with the engine's privileges. So a file counts only if nobody but root and the engine's user can have
written it, or put another one in its place. Images name plugins, but have no say in where they come from.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError, Problems
from engine.plugins import HOOKS, NEVER_CALLED, Plugin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.options import Options

_OWN_STDLIB = os.path.dirname(os.__file__)
_LARGEST = 4 << 20
_SEE_TO_IT = "plugins run with your privileges: see to its owner and mode"


def load(opts: Options, stage: str) -> list[Plugin]:
    """All plugins there are. Raises Refused with all that is wrong with them."""
    problems = Problems()
    found: dict[str, Plugin] = {}
    for name, origin in (*_files(opts, problems), *entry_points()):
        if name in found:
            problems.add(f"plugin {name}: is there twice, {found[name].origin} and {origin}", remedy="remove one")
            continue
        with problems:
            code = _load_file(name, origin) if origin.endswith(".py") else _load_entry_point(name, origin)
            found[name] = Plugin(name, origin, code)
    problems.raise_if_any(stage)
    for plugin in found.values():
        _introduce(plugin)
    return list(found.values())


def _introduce(plugin: Plugin) -> None:
    """Say in the log what has been loaded."""
    hooks = [hook for hook in HOOKS if plugin.has(hook)]
    log.info(f"plugin {plugin.name} ({plugin.origin}): {', '.join(hooks) or 'no hooks'}")
    for hook in NEVER_CALLED:
        if plugin.has(hook):
            log.warn(f"plugin {plugin.name}: its hook {hook} is never called by this engine")


# Files


def _files(opts: Options, problems: Problems) -> list[tuple[str, str]]:
    """(name, path) of the files in the plugin directory."""
    try:
        names = sorted(os.listdir(opts.libdir))
    except FileNotFoundError:
        if "libdir" in opts.given or "CRIU_LIBS_DIR" in os.environ:
            problems.add(f"plugin directory {opts.libdir}: No such file or directory", remedy="see --libdir")
        return []
    except OSError as error:
        problems.add(f"plugin directory {opts.libdir}: {error.strerror}", remedy="see --libdir")
        return []
    directory = os.path.realpath(opts.libdir)
    found = []
    for name in names:
        stem, dot, ending = name.rpartition(".")
        if ending == "so" and dot:
            log.warn(f"plugin {opts.libdir}/{name} is passed over: plugins of this engine are in Python")
        elif ending == "py" and stem.isidentifier() and not stem.startswith("_"):
            found.append((stem, os.path.join(directory, name)))
    if found and (why := _distrust_directory(directory)):
        problems.add(f"plugin directory {opts.libdir}: {why}", remedy=_SEE_TO_IT)
        return []
    return found


def _distrust_directory(path: str) -> str | None:
    """Why others could have put something into a directory; None: they couldn't. path: resolved."""
    if why := _distrust(os.stat(path), path):
        return why
    while path != "/":
        path = os.path.dirname(path)
        info = os.stat(path)
        # In a sticky directory nobody can take the place of what is somebody else's.
        if (why := _distrust(info, path)) and not (info.st_mode & stat.S_ISVTX and info.st_uid in _trusted()):
            return why
    return None


def _distrust(info: os.stat_result, path: str) -> str | None:
    if info.st_uid not in _trusted():
        return f"{path} belongs to user {info.st_uid}"
    if info.st_mode & stat.S_IWOTH or (info.st_mode & stat.S_IWGRP and info.st_gid != 0):
        return f"{path} can be written to by others (mode {stat.S_IMODE(info.st_mode):o})"
    return None


def _trusted() -> tuple[int, int]:
    return 0, os.geteuid()


def _load_file(name: str, path: str) -> Any:
    """Run a file as a module. No bytecode is read or written, so that what is trusted is all there is."""
    real = os.path.realpath(path)
    try:
        if os.path.dirname(real) != os.path.dirname(path) and (why := _distrust_directory(os.path.dirname(real))):
            raise CrError(f"plugin {name}: {why} ({_SEE_TO_IT})")
        with open(os.open(real, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            info = os.fstat(file.fileno())
            why = _distrust(info, real) if stat.S_ISREG(info.st_mode) else f"{path} is not a file"
            if why:
                raise CrError(f"plugin {name}: {why} ({_SEE_TO_IT})")
            source = file.read(_LARGEST)
    except OSError as error:
        raise CrError(f"plugin {name}: {path}: {error.strerror}") from error
    module = type(os)(f"crucible_plugin_{name}")
    module.__file__ = path
    sys.modules[module.__name__] = module  # dataclasses, among others, look there
    try:
        exec(compile(source, path, "exec"), module.__dict__)  # the user's own code: see the head of this file
    except (Exception, SystemExit) as error:
        raise CrError(f"plugin {name}: {path} can't be loaded: {type(error).__name__}: {error}") from error
    return module


# Packages


def entry_points() -> Iterator[tuple[str, str]]:
    """(name, value) of the entry points of this group that installed packages have.

    importlib.metadata would find them, too, but takes 100 ms. Relative directories are left out: the current one is
    that of the images.
    """
    for directory in sys_path():
        try:
            entries = sorted(entry.path for entry in os.scandir(directory) if entry.name.endswith(".dist-info"))
        except OSError:
            continue
        for path in entries:
            yield from _entry_points_of(path)


def sys_path() -> list[str]:
    """Where packages can be: not in the standard library."""
    found = (path for path in sys.path if path.startswith("/") and not path.endswith((".zip", "/lib-dynload")))
    return [path for path in dict.fromkeys(found) if path != _OWN_STDLIB]


def _entry_points_of(package: str) -> Iterator[tuple[str, str]]:
    """The form is an INI file's: https://packaging.python.org/en/latest/specifications/entry-points/"""
    try:
        fd = os.open(f"{package}/entry_points.txt", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        text = os.read(fd, 1 << 20)
    finally:
        os.close(fd)
    _, there, rest = text.partition(b"[crucible.plugins]")
    for line in rest.decode(errors="replace").splitlines() if there else ():
        if line.startswith("["):
            break
        name, equals, value = line.partition("=")
        if equals and not line.startswith(("#", ";")):
            yield name.strip(), value.strip()


def _load_entry_point(name: str, value: str) -> Any:
    """value: "module", or "module:object"."""
    module, _, attributes = value.partition("[")[0].strip().partition(":")
    try:
        found = __import__(module.strip(), fromlist=["."])
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
    except (Exception, SystemExit) as error:
        raise CrError(f"plugin {name}: {value} can't be loaded: {type(error).__name__}: {error}") from error
    return found
