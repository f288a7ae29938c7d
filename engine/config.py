"""Configuration files: one option a line, by its long name without dashes.

    tcp-established            # a flag
    no-link-remap              # its opposite
    ghost-limit 4M
    log-file = "my dump.log"   # a value in double quotes may hold blanks and #, and \\" for a quote

Later files win over earlier ones, and the command line over all of them. Options that form a list add up.
"""

from __future__ import annotations

import os

from engine import log
from engine.option import OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.argv import Use

SYSTEM_FILE = "/etc/criu/default.conf"
USER_FILE = ".criu/default.conf"
_MAX_SIZE = 1 << 20
_BLANKS = " \t"


def files(config: str | None, no_default_config: bool) -> list[str]:
    """The files to read, in order. config: --config, which takes the place of the two default files."""
    paths = []
    if config is None and not no_default_config:
        paths.append(SYSTEM_FILE)
        home = os.environ.get("HOME")
        if home:
            paths.append(os.path.join(home, USER_FILE))
    if os.environ.get("CRIU_CONFIG_FILE"):
        paths.append(os.environ["CRIU_CONFIG_FILE"])
    if config is not None:
        paths.append(config)
    return paths


def read_files(config: str | None, no_default_config: bool) -> Iterator[tuple[str, int, Use]]:
    """(path, line number, use of an option) of all the files. Raises OptionError that names file and line."""
    for path in files(config, no_default_config):
        yield from read_file(path)


def read_file(path: str) -> Iterator[tuple[str, int, Use]]:
    """The same of one file. A file that is not there is passed over, as CRIU does."""
    from engine.argv import argument, find

    for number, line in enumerate(_lines(path), 1):
        try:
            parsed = parse_line(line)
            if parsed is None:
                continue
            name, value = parsed
            option, negated = find(name)
            use = (option, negated, argument(option, negated, value))
        except OptionError as exc:
            raise OptionError(f"{path}:{number}: {exc.message}") from None
        if option.name in ("config", "no-default-config", "help", "version"):
            raise OptionError(f"{path}:{number}: {option.name} works on the command line only")
        yield path, number, use


def parse_line(line: str) -> tuple[str, str | None] | None:
    """(option name, value or None) of a line, or None for an empty one. Raises OptionError."""
    line = line.strip(_BLANKS + "\r")
    end = next((i for i, char in enumerate(line) if char in _BLANKS + "=#"), len(line))
    name, rest = line[:end], line[end:].lstrip(_BLANKS)
    if not name:
        if rest and not rest.startswith("#"):
            raise OptionError(f"no option name before {rest}")
        return None
    has_equals = rest.startswith("=")
    rest = rest.removeprefix("=").lstrip(_BLANKS)
    value, rest = _quoted(rest) if rest.startswith('"') else _bare(rest)
    rest = rest.lstrip(_BLANKS)
    if rest and not rest.startswith("#"):
        raise OptionError(f"{name}: excess word {rest.split()[0]} after its value (values with blanks need quotes)")
    if has_equals and value is None:
        raise OptionError(f"{name}: no value after =")
    return name, value


def _bare(text: str) -> tuple[str | None, str]:
    """A value without quotes ends at a blank or a comment."""
    end = next((i for i, char in enumerate(text) if char in _BLANKS + "#"), len(text))
    return text[:end] or None, text[end:]


def _quoted(text: str) -> tuple[str, str]:
    value = ""
    position = 1
    while position < len(text):
        char = text[position]
        if char == '"':
            return value, text[position + 1 :]
        if text.startswith('\\"', position):
            position += 1
            char = text[position]
        value += char
        position += 1
    raise OptionError("the closing quote is missing")


def _lines(path: str) -> list[str]:
    try:
        with open(path, "rb") as file:
            content = file.read(_MAX_SIZE + 1)
    except FileNotFoundError:
        log.debug(f"there is no configuration file {path}")
        return []
    except OSError as exc:
        raise OptionError(f"configuration file {path} cannot be read: {exc.strerror}") from None
    if len(content) > _MAX_SIZE:
        raise OptionError(f"configuration file {path} is larger than {_MAX_SIZE} bytes")
    return content.decode(errors="surrogateescape").split("\n")
