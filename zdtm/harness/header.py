"""The header of a program: its docstring (Python) or first comment (C) says what it covers and how it may be run.

    One sentence: the kernel state.

    states: pipes-and-fifos/full-pipe          what it covers, in the words of the list of kernel states
    flavours: h                                where it runs: h is the host
    options: --link-remap                      more engine options, for dump and restore
    dump-options: ...   restore-options: ...   the same for one of them
    pre-dump-options: ...                      more engine options for pre-dumps
    plugins: cpu_dma_latency                   plugins of the engine, from zdtm/plugins
    needs: root, feature seccomp_filters       without these it is skipped (see needs.py)
    expect: refuse <regex>                     the dump must fail, with a message that matches
    modes: not iters: reason                   a mode that makes no sense for this state
    oracle: ignore KIND: reason                facts that may differ after the restore (see oracle/)
    outside: CLASS                             who keeps the other ends outside of the tree (see zdtm/lib/outside.py)
    kernel: which pages are dirty              what kernels differ in; the program runs in ci/vm on each of them
    slow: reason                               why it takes more than two seconds (see slow.py)
    cflags: -lrt                               for programs in C

A line indented below one of these continues it. Every key but `expect` and `outside` may be repeated.
"""

from __future__ import annotations

import ast
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from zdtm.harness.oracle.picture import KINDS

FLAVOURS = ("h",)
MODES = (
    "nocr",
    "cli",
    "iters",
    "snapshot",
    "snapshot-cow",
    "pre-dump",
    "rpc",
    "pre-dump-rpc",
    "page-server",
    "lazy",
    "remote",
    "lazy-remote",
)
KEYS = (
    "states",
    "flavours",
    "options",
    "dump-options",
    "restore-options",
    "pre-dump-options",
    "plugins",
    "needs",
    "expect",
    "modes",
    "oracle",
    "outside",
    "kernel",
    "slow",
    "cflags",
)
KEY_LINE = re.compile(r"([a-z-]+):(?:\s+(.*))?$")


class BadHeader(Exception):
    """The header cannot be understood. The message names the file and the line's text."""


@dataclass(frozen=True)
class Program:
    """One test program as its header describes it."""

    path: Path
    summary: str
    states: tuple[str, ...] = ()
    flavours: tuple[str, ...] = FLAVOURS
    dump_options: tuple[str, ...] = ()
    restore_options: tuple[str, ...] = ()
    pre_dump_options: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    """Names of files in zdtm/plugins."""
    needs: tuple[str, ...] = ()
    refusal: str | None = None
    """Regex that the message of the refused dump must match; None: the dump must work."""
    without_modes: dict[str, str] = field(default_factory=dict)
    """mode -> reason"""
    oracle_ignores: dict[str, str] = field(default_factory=dict)
    """kind of fact -> reason"""
    outside: str | None = None
    """Name of the class in the program that lives outside of the tree."""
    kernel: str | None = None
    """What in this state depends on the kernel, in words."""
    slow: str | None = None
    """Why it takes long."""
    cflags: tuple[str, ...] = ()

    @property
    def modes(self) -> list[str]:
        """A refused dump leaves nothing to restore, so one dump (cli) says it all. What makes no sense in a mode makes
        none by requests or over the network either."""
        possible = ("nocr", "cli") if self.refusal is not None else MODES
        return [mode for mode in possible if not {mode, _plain(mode)} & set(self.without_modes)]

    @property
    def in_transition(self) -> bool:
        """The state keeps changing during the checkpoint."""
        return self.path.parent.name == "transition"


def _plain(mode: str) -> str:
    """The mode that this is another way of."""
    return mode.removesuffix("-rpc").removesuffix("-remote").removesuffix("-cow")


def is_program(path: Path) -> bool:
    return path.parent.name in ("static", "transition") and path.suffix in (".py", ".c") and path.name[0] != "_"


def read(path: Path) -> Program:
    """Parse the header of a program file. Raises BadHeader."""
    summary, values = _split(_header_text(path), path)

    def words(key: str) -> tuple[str, ...]:
        return tuple(word for line in values.get(key, []) for word in shlex.split(line))

    def items(key: str) -> tuple[str, ...]:
        return tuple(item.strip() for line in values.get(key, []) for item in line.split(",") if item.strip())

    flavours = items("flavours") or FLAVOURS
    if unknown := set(flavours) - {"h", "ns", "uns"}:
        raise BadHeader(f"{path}: unknown flavours: {', '.join(sorted(unknown))}")
    without_modes = _reasons(values, "modes", "not", path)
    if unknown := set(without_modes) - set(MODES):
        raise BadHeader(f"{path}: unknown modes: {', '.join(sorted(unknown))}")
    oracle_ignores = _reasons(values, "oracle", "ignore", path)
    if unknown := set(oracle_ignores) - set(KINDS):
        raise BadHeader(f"{path}: unknown kinds for the oracle: {', '.join(sorted(unknown))}")
    return Program(
        path=path,
        summary=summary,
        states=items("states"),
        flavours=flavours,
        dump_options=words("options") + words("dump-options"),
        restore_options=words("options") + words("restore-options"),
        pre_dump_options=words("pre-dump-options"),
        plugins=items("plugins"),
        needs=items("needs"),
        refusal=_refusal(values.get("expect", []), path),
        without_modes=without_modes,
        oracle_ignores=oracle_ignores,
        outside=_outside(values.get("outside", []), path),
        kernel=" ".join(values.get("kernel", [])) or None,
        slow=_slow(values.get("slow", []), path),
        cflags=words("cflags"),
    )


def _header_text(path: Path) -> str:
    source = path.read_text()
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(source))
    else:
        comment = re.match(r"\s*/\*(.*?)\*/", source, re.DOTALL)
        text = comment and re.sub(r"^[ \t]*\*? ?", "", comment[1], flags=re.MULTILINE).strip()
    if not text:
        raise BadHeader(f"{path}: has no header: a docstring (Python) or a first comment (C)")
    return text


def _split(text: str, path: Path) -> tuple[str, dict[str, list[str]]]:
    """The first paragraph, and the values of the keys in the order of their lines."""
    summary, _, rest = text.partition("\n\n")
    values: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in rest.splitlines():
        match = KEY_LINE.match(line)
        if match and match[1] in KEYS:
            current = values.setdefault(match[1], [])
            current.append((match[2] or "").strip())
        elif current is not None and line.startswith((" ", "\t")):
            current[-1] = f"{current[-1]} {line.strip()}".strip()
        elif match and current is not None:
            raise BadHeader(f"{path}: unknown key in the header: {line}")
        else:
            current = None
    return " ".join(summary.split()), values


def _reasons(values: dict[str, list[str]], key: str, verb: str, path: Path) -> dict[str, str]:
    """ "not iters: because" -> {"iters": "because"}. An exception without a reason is not accepted."""
    reasons = {}
    for line in values.get(key, []):
        match = re.fullmatch(rf"{verb}\s+([\w-]+):\s+(\S.*)", line)
        if match is None:
            raise BadHeader(f'{path}: "{key}: {line}" should read "{key}: {verb} NAME: reason"')
        reasons[match[1]] = match[2]
    return reasons


def _outside(lines: list[str], path: Path) -> str | None:
    if not lines:
        return None
    if len(lines) > 1 or path.suffix != ".py" or not lines[0].isidentifier():
        raise BadHeader(f'{path}: "outside:" can be given once, and names a class of a program in Python')
    return lines[0]


def _slow(lines: list[str], path: Path) -> str | None:
    if lines and not all(lines):
        raise BadHeader(f'{path}: "slow:" should read "slow: reason"')
    return " ".join(lines) or None


def _refusal(lines: list[str], path: Path) -> str | None:
    if not lines:
        return None
    verb, _, pattern = lines[-1].partition(" ")
    if len(lines) > 1 or verb != "refuse":
        raise BadHeader(f'{path}: "expect:" can be given once and reads "refuse" or "refuse REGEX"')
    try:
        re.compile(pattern)
    except re.error as wrong:
        raise BadHeader(f"{path}: bad regex after expect: refuse: {wrong}") from wrong
    return pattern.strip()
