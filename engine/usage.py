"""The text of --help, made from the table of options."""

from __future__ import annotations

from engine.option import NONE, OPTIONAL, Option
from engine.options import COMMANDS, OPTIONS

_VERBS = """\
  {program} dump -t PID [options]            save a process tree to images, and end it
  {program} pre-dump -t PID [options]        save its memory while it runs
  {program} restore [options]                make the tree again from images
  {program} lazy-pages [options]             bring the memory of a restore while it runs
  {program} check [--feature NAME]           what this kernel can do
  {program} cpuinfo dump|check [options]     save the processor's features, or compare them
  {program} gc|dedup [options]               clean up after a dump, or after increments
  {program} page-server [options]            take the memory of a dump on another machine
  {program} image-proxy|image-cache          carry images to another machine, from dump to restore
  {program} service [options]                do what clients ask for by RPC
  {program} swrk FD                          the same for the one client at a connected socket
  {program} crit VERB …                      look into images, see {program} crit --help
"""
_MEANING_AT = 42
_WIDTH = 100


def usage(program: str) -> str:
    """The whole text. program: "crucible" or "criu"."""
    lines = ["Usage:", _VERBS.format(program=program), "Options, and the commands they are for:"]
    for option in OPTIONS.values():
        lines += _lines(option)
    return "\n".join(lines) + "\n"


def _lines(option: Option) -> list[str]:
    argument = "" if option.arg == NONE else f"[={option.metavar}]" if option.arg == OPTIONAL else f" {option.metavar}"
    letter = f"-{option.short}," if option.short else "   "
    name = f"[no-]{option.name}" if option.negatable else option.name
    head = f"  {letter} --{name}{argument}"
    commands = "all" if option.commands == COMMANDS else ", ".join(option.commands)
    wrapped = _wrap(f"{option.meaning} [{commands}]")
    if len(head) >= _MEANING_AT:
        return [head, *(" " * _MEANING_AT + line for line in wrapped)]
    return [head.ljust(_MEANING_AT) + wrapped[0], *(" " * _MEANING_AT + line for line in wrapped[1:])]


def _wrap(text: str) -> list[str]:
    """textwrap would do the same, after importing re."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + 1 + len(word) > _WIDTH - _MEANING_AT:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
