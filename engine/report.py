"""An exception's way into the log, and what the command's exit status is then."""

from __future__ import annotations

from engine import log
from engine.errors import CrError, text_of


def report(exc: BaseException) -> int:
    """Log an exception that ended a command: one line for each reason of a CrError, one for anything else, which is a
    bug of ours unless the system lacks something. From level 4 on the traceback follows. Returns the exit status."""
    place = log.place_of(exc)
    if isinstance(exc, CrError):
        for reason in exc.reasons:
            log.error(reason, place)
    elif isinstance(exc, KeyboardInterrupt):
        log.error("interrupted", place)
        return 1
    elif isinstance(exc, OSError):
        log.error(text_of(exc), place)
    elif isinstance(exc, MemoryError):
        log.error("there is not enough memory", place)
    else:
        log.error(f"internal error {type(exc).__name__}: {exc}", place)
    _log_traceback(exc)
    return 1


def _log_traceback(exc: BaseException) -> None:
    if log.level() >= log.DEBUG:
        import traceback

        for line in "".join(traceback.format_exception(exc)).splitlines():
            log.debug(line)
