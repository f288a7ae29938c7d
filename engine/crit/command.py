"""The words after `crucible crit`, or after the name `crit`: which verb, and with what."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from engine.crit.files import show_nothing_more
from engine.option import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

_PIPE_STATUS = 141
"""As of a process that SIGPIPE has ended."""


def main(words: list[str], program: str) -> int:
    """Run one verb. program: what the user called us by. Returns the exit status; raises CrError."""
    args = _parser(program).parse_args(words)
    run: Callable[[argparse.Namespace], int] = args.run
    try:
        return run(args)
    except BrokenPipeError:
        show_nothing_more()
        return _PIPE_STATUS


class _Parser(argparse.ArgumentParser):
    """A mistake in the words is an error like any other."""

    def error(self, message: str) -> NoReturn:
        raise OptionError(f"{message}, see {self.prog} --help")


def _parser(program: str) -> argparse.ArgumentParser:
    parser = _Parser(prog=program, description="Look into images.", allow_abbrev=False)
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    decode = verbs.add_parser("decode", help="an image as JSON")
    _add_files(decode, "the image", "the JSON")
    decode.add_argument("--pretty", action="store_true", help="for people: indented, flags by name, addresses in hex")
    decode.add_argument("--nopl", action="store_true", help="leave out what follows entries, and say how much it is")
    decode.set_defaults(run=_decode)
    encode = verbs.add_parser("encode", help="an image from JSON")
    _add_files(encode, "the JSON", "the image")
    encode.set_defaults(run=_encode)
    show = verbs.add_parser("show", help="an image as JSON for people")
    show.add_argument("file", metavar="FILE")
    show.add_argument("--nopl", action="store_true", help="leave out what follows entries, and say how much it is")
    show.set_defaults(run=_show)
    info = verbs.add_parser("info", help="the kind of an image, and its number of entries")
    info.add_argument("file", metavar="FILE")
    info.set_defaults(run=_info)
    explore = verbs.add_parser("x", help="tasks, descriptors, mappings, pages or sockets of an image set")
    explore.add_argument("directory", metavar="DIR")
    explore.add_argument("what", choices=("ps", "fds", "mems", "rss", "sk"))
    explore.set_defaults(run=_explore)
    diff = verbs.add_parser("diff", help="what differs between two image sets; status 1 if anything does")
    diff.add_argument("first", metavar="DIR1")
    diff.add_argument("second", metavar="DIR2")
    diff.set_defaults(run=_diff)
    verify = verbs.add_parser("verify", help="is a set of images whole, and could it be restored here?")
    verify.add_argument("directory", metavar="DIR")
    verify.add_argument("options", metavar="OPTION", nargs=argparse.REMAINDER, help="options that restore would have")
    verify.set_defaults(run=_verify)
    return parser


def _add_files(parser: argparse.ArgumentParser, what: str, result: str) -> None:
    parser.add_argument("-i", "--in", dest="source", metavar="IN", help=f"{what}; standard input by default")
    parser.add_argument("-o", "--out", dest="target", metavar="OUT", help=f"{result}; standard output by default")


def _decode(args: argparse.Namespace) -> int:
    from engine.crit.decode import decode

    decode(args.source, args.target, args.pretty, not args.nopl)
    return 0


def _encode(args: argparse.Namespace) -> int:
    from engine.crit.encode import encode

    encode(args.source, args.target)
    return 0


def _show(args: argparse.Namespace) -> int:
    from engine.crit.decode import decode

    decode(args.file, None, True, not args.nopl)
    return 0


def _info(args: argparse.Namespace) -> int:
    from engine.crit.info import info

    info(args.file)
    return 0


def _explore(args: argparse.Namespace) -> int:
    from engine.crit.explore import explore

    explore(args.directory, args.what)
    return 0


def _verify(args: argparse.Namespace) -> int:
    from engine.crit.verify import verify

    verify(args.directory, args.options)
    return 0


def _diff(args: argparse.Namespace) -> int:
    from engine.crit.diff import diff

    return 0 if diff(args.first, args.second) else 1
