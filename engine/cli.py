"""The command line: from words to one verb, and from what it raises to log lines and an exit status.

A verb is a module with `run(opts) -> int`, imported when it is asked for: what a command does not need it does not
load. Exit status: 0, or 1 for any failure, or 255 where CRIU says so (deprecated commands, failed post-dump scripts).
"""

from __future__ import annotations

import os
import sys

from engine import CRIU_VERSION, __version__, log, places
from engine.report import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options

_DEPRECATED = 255
_VERBS = {
    "check": "engine.check",
    "cpuinfo": "engine.cpuinfo",
    "dedup": "engine.dedup",
    "dump": "engine.dump",
    "gc": "engine.gc",
    "image-cache": "engine.transport.image_cache",
    "image-proxy": "engine.transport.image_proxy",
    "lazy-pages": "engine.lazy.daemon",
    "page-server": "engine.transport.page_server",
    "pre-dump": "engine.pre_dump",
    "restore": "engine.restore",
    "service": "engine.rpc.service",
    "swrk": "engine.rpc.swrk",
}
# Their options are also those of the requests to come, and are refused where a request can be told of it.
_SERVERS = ("service", "swrk")


def main(argv: list[str] | None = None) -> int:
    """Run one command. argv: program name and arguments, sys.argv by default. Returns the exit status."""
    argv = sys.argv if argv is None else argv
    name = os.path.basename(argv[0])
    program = name if name in ("criu", "crit") else "crucible"
    try:
        return _main(program, argv[1:])
    except (Exception, KeyboardInterrupt) as exc:
        return report(exc)
    finally:
        log.close()


def _main(program: str, args: list[str]) -> int:
    if program == "crit" or args[:1] == ["crit"]:
        from engine.crit import command

        return command.main(args, "crit") if program == "crit" else command.main(args[1:], f"{program} crit")
    from engine import argv

    if not args:
        return _print_usage(program, sys.stderr.fileno(), 1)
    opts = argv.parse(args)
    if opts.help:
        return _print_usage(program, sys.stdout.fileno(), 0)
    if opts.version:
        crucible = f"Crucible {__version__}\n" if program == "criu" else ""
        print(f"Version: {CRIU_VERSION if program == 'criu' else __version__}\n{crucible}", end="")
        return 0
    if opts.command in argv.DEPRECATED_COMMANDS:
        log.error(f"the {opts.command} command is deprecated and does nothing")
        return _DEPRECATED
    places.close_descriptors(opts)
    if opts.command != "swrk":  # whose first request says where
        places.settle(opts)
    return _verb(opts)(opts)


def _print_usage(program: str, fd: int, status: int) -> int:
    from engine.usage import usage

    os.write(fd, usage(program).encode())
    return status


def _verb(opts: Options) -> Callable[[Options], int]:
    """The function that does the command. Raises Refused when it is to do what this engine does not have."""
    if opts.command not in _SERVERS:
        from engine.unserved import refuse_unserved

        refuse_unserved(opts)
    run: Callable[[Options], int] = __import__(_VERBS[opts.command], fromlist=["run"]).run
    return run
