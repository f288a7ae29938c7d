"""The command line: from words to one verb, and from what it raises to log lines and an exit status.

A verb is a module with `run(opts) -> int`, imported when it is asked for: what a command does not need it does not
load. Exit status: 0, or 1 for any failure, or 255 where CRIU says so (deprecated commands, failed post-dump scripts).
"""

from __future__ import annotations

import os
import sys

from engine import __version__, log
from engine.errors import CrError
from engine.report import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options

# Callers of criu, runc among them, ask for its version to learn what it can do. This is the one we are compatible with.
CRIU_VERSION = "4.2"
_DEPRECATED = 255
# Verbs of CRIU that this engine does not have.
_MISSING = ("lazy-pages", "page-server", "service", "swrk", "dedup")


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
    _settle(opts)
    return _verb(opts)(opts)


def _print_usage(program: str, fd: int, status: int) -> int:
    from engine.usage import usage

    os.write(fd, usage(program).encode())
    return status


def _verb(opts: Options) -> Callable[[Options], int]:
    """The function that does the command. Raises CrError when this engine does not have it, or an option of it."""
    if opts.command in _MISSING:
        raise CrError(f"{opts.command} is not supported by this engine")
    from engine.unserved import refuse_unserved

    refuse_unserved(opts)
    if opts.command == "dump":
        from engine import dump

        return dump.run
    if opts.command == "pre-dump":
        from engine import pre_dump

        return pre_dump.run
    if opts.command == "restore":
        from engine import restore

        return restore.run
    if opts.command == "check":
        from engine import check

        return check.run
    from engine import cpuinfo

    return cpuinfo.run


def _settle(opts: Options) -> None:
    """Close what is to be closed, open the images directory, go to the work directory and start the log there."""
    for fd in opts.close:
        try:
            os.close(fd)
        except OSError as exc:
            raise CrError(f"--close {fd}: {exc.strerror}") from None
    if os.geteuid() != 0 and not opts.unprivileged:
        raise CrError(f"{opts.command} needs root (or --unprivileged, with CAP_CHECKPOINT_RESTORE)")
    opts.images_dir_fd = _open_directory(opts.images_dir, "images")
    if opts.work_dir is None:
        os.fchdir(opts.images_dir_fd)
    else:
        fd = _open_directory(opts.work_dir, "work")
        os.fchdir(fd)
        os.close(fd)
    try:
        log.setup(opts.verbosity, opts.log_file)
    except OSError as exc:
        raise CrError(f"log file {opts.log_file} cannot be opened in the work directory: {exc.strerror}") from None
    log.info(f"Crucible {__version__}, command {opts.command}")


def _open_directory(path: str, what: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as exc:
        raise CrError(f"{what} directory {path} cannot be opened: {exc.strerror}") from None
