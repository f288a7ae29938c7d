"""Progress: how far a long piece of work has come, on one line of the terminal, with its rate and the time left.

Nothing is shown where standard error is no terminal, nor of work that is done within a second: rich, which draws the
line, costs a tenth of one to load, for which a frozen tree would have to wait.

The terminal may itself be part of what is dumped: its reader, a terminal emulator or sshd, stands then, and a write
that waits for it would wait for ever. So it is opened anew, not to be waited for; what it does not take is lost. And a
command in the background, which it could stop (SIGTTOU, termios(3)), draws nothing.
"""

from __future__ import annotations

import contextlib
import os
import time

from engine import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from rich.progress import Progress as Bar

_STDERR = 2
_QUIET_SECONDS = 1.0
_EVERY_SECONDS = 0.1
_WIDTH = 80
"""Of a terminal that does not say."""
_BAR_WIDTH = 20
_ERASE = "\r\x1b[K"


class Progress:
    """Bytes of one piece of work, as a context manager that takes the line away in the end. what: "Writing memory"."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._total = self._done = 0
        self._due = 0.0
        self._line: _Line | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._line:
            self._line.close()
            self._line = None

    def expect(self, size: int) -> None:
        """There are so many bytes more to do. Work of which nobody says this has no end that could be foretold."""
        self._total += size

    def add(self, size: int) -> None:
        """So many bytes more have been done."""
        self._done += size
        now = time.monotonic()
        if not self._due:
            self._due = now + (_QUIET_SECONDS if os.isatty(_STDERR) else float("inf"))
        elif now >= self._due:
            self._line = self._line or _Line(self._what)
            self._line.draw(self._done, self._total)
            self._due = time.monotonic() + _EVERY_SECONDS


class _Line:
    """The line on the terminal. Lines of the log take its place until it is drawn the next time."""

    def __init__(self, what: str) -> None:
        from rich import progress

        self._terminal = -1
        self._bar: Bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(_BAR_WIDTH),
            progress.DownloadColumn(binary_units=True),
            progress.TransferSpeedColumn(),
            progress.TimeRemainingColumn(),
            auto_refresh=False,
            disable=True,
        )
        self._task = self._bar.add_task(what, total=None)
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            self._terminal = os.open(f"/proc/self/fd/{_STDERR}", flags)
        log.before_lines(self._erase)

    def draw(self, done: int, total: int) -> None:
        """done, total: bytes; total 0: unknown."""
        from rich.console import Console

        self._bar.update(self._task, completed=done, total=total or None)
        if not self._is_in_background():
            console = Console(stderr=True, width=self._width() - 1)
            with console.capture() as drawn:
                console.print(self._bar.get_renderable(), end="")
            self._write(_ERASE + drawn.get().strip("\n"))

    def close(self) -> None:
        """Take it away."""
        log.before_lines(None)
        if self._terminal >= 0:
            self._erase()
            os.close(self._terminal)

    def _erase(self) -> None:
        if not self._is_in_background():
            self._write(_ERASE)

    def _width(self) -> int:
        try:
            return os.get_terminal_size(self._terminal).columns or _WIDTH
        except OSError:
            return _WIDTH

    def _is_in_background(self) -> bool:
        """A terminal that does not control this process does not stop it either."""
        try:
            return os.tcgetpgrp(self._terminal) != os.getpgrp()
        except OSError:
            return False

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._terminal, text.encode())
