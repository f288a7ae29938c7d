"""The log: levels, line forms and file rules of CRIU, so that people and tools that read its logs can read ours.

    level 0 messages   1 errors   2 warnings (default)   3 info   4 debug

From level 3 on each line starts with the seconds since start, "(00.012345) ". An error is
"Error (engine/dump.py:12): text", a warning "Warn  (engine/dump.py:12): text".

A line is one write(2) to a descriptor opened with O_APPEND, so that helpers forked by the engine can log without
tearing each other's lines. The logging module of the standard library is not used: it costs 10 ms of start-up.
"""

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

ERROR, WARN, INFO, DEBUG = 1, 2, 3, 4
TIMESTAMPS_FROM = INFO
STDOUT, STDERR = 1, 2


class _Log:
    """The one log of the process."""

    def __init__(self) -> None:
        self.level = WARN
        self.fd = STDERR
        self.owns_fd = False
        self.start = time.monotonic()
        self.first_error: str | None = None
        self.before: Callable[[], None] | None = None


_log = _Log()


def setup(level: int, path: str | None = None, dir_fd: int | None = None) -> None:
    """Set the level and the destination.

    path    None: stderr; "-": stdout; otherwise a file, relative to dir_fd (default: the current directory, which
            cli.main has made the work dir). It is truncated and has mode 0600: logs tell much about a process.
    Raises OSError when the file cannot be opened; the log stays what it was.
    """
    if path is None:
        fd, owns = STDERR, False
    elif path == "-":
        fd, owns = STDOUT, False
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC
        fd, owns = os.open(path, flags, 0o600, dir_fd=dir_fd), True
    close()
    _log.level, _log.fd, _log.owns_fd = level, fd, owns


def close() -> None:
    """Close the log file; lines go to stderr again."""
    if _log.owns_fd:
        os.close(_log.fd)
    _log.fd, _log.owns_fd = STDERR, False


def become_output() -> None:
    """Let standard output and standard error go where the log goes."""
    for fd in (STDOUT, STDERR):
        if fd != _log.fd:
            os.dup2(_log.fd, fd)


def before_lines(work: Callable[[], None] | None) -> None:
    """Have something done before each line: what has been drawn on the terminal taken away."""
    _log.before = work


def level() -> int:
    return _log.level


def elapsed() -> float:
    """Seconds since this module was loaded, which is the start of the command."""
    return time.monotonic() - _log.start


def first_error() -> str | None:
    """Text of the first error since the start or the last forget_first_error(): criu_resp.cr_errmsg."""
    return _log.first_error


def forget_first_error() -> None:
    """A new RPC request begins."""
    _log.first_error = None


def msg(text: str) -> None:
    """Level 0: what the command was asked for. It goes to standard output as it is, also when there is a log file."""
    os.write(STDOUT, f"{text}\n".encode(errors="backslashreplace"))


def error(text: str, where: str | None = None) -> None:
    """where: "file:line" when the error did not arise at the caller (see place_of)."""
    if _log.first_error is None:
        _log.first_error = text
    if _log.level >= ERROR:
        _write(f"Error ({where or _place(sys._getframe(1))}): {text}")


def warn(text: str) -> None:
    if _log.level >= WARN:
        _write(f"Warn  ({_place(sys._getframe(1))}): {text}")


def info(text: str) -> None:
    if _log.level >= INFO:
        _write(text)


def debug(text: str) -> None:
    if _log.level >= DEBUG:
        _write(text)


def place_of(exc: BaseException) -> str:
    """ "file:line" of the statement that raised exc, or asked engine/errors.py to."""
    place = "unknown"
    trace = exc.__traceback__
    while trace is not None:
        name = _short(trace.tb_frame.f_code.co_filename)
        if name != "engine/errors.py":
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def _place(frame: FrameType) -> str:
    return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}"


def _short(filename: str) -> str:
    """The path from the package directory on: "engine/objects/pipe.py"."""
    parts = filename.rsplit("/engine/", 1)
    return "engine/" + parts[1] if len(parts) == 2 else os.path.basename(filename)


def _write(text: str) -> None:
    """A text of several lines gets the time stamp on each. A log that cannot be written never fails the verb."""
    stamp = f"({elapsed():09.6f}) " if _log.level >= TIMESTAMPS_FROM else ""
    lines = "".join(f"{stamp}{line}\n" for line in text.rstrip("\n").split("\n"))
    if _log.before:
        _log.before()
    try:
        os.write(_log.fd, lines.encode(errors="backslashreplace"))
    except OSError:
        pass
