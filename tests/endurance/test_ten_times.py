"""A large, busy Python program goes there and back ten times in a row, and finds nothing wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

from tests.endurance import program
from tests.endurance.journey import there_and_back
from tests.hostile import ward
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_TIMES = 10
_MEBIBYTES = 500
_DEADLINE = 600


def _go_there_and_back(place: Path) -> str:
    files, images = place / "files", place / "images"
    files.mkdir()
    images.mkdir()
    with open(place / "output", "w") as output:
        words = [sys.executable, "-I", "-S", program.__file__, str(_MEBIBYTES)]
        pid = subprocess.Popen(
            words, cwd=files, start_new_session=True, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ).pid

    def said() -> str:
        return (place / "output").read_text()

    def await_progress() -> None:
        wait_until(lambda: (files / "progress").exists(), "the program has started", said)
        before = program.progress_in(str(files))
        wait_until(
            lambda: all(new > old for new, old in zip(program.progress_in(str(files)), before, strict=True)),
            "all workers go on",
            said,
        )

    for _ in range(_TIMES):
        await_progress()
        there_and_back(pid, images)
    await_progress()
    os.kill(pid, signal.SIGTERM)
    status = os.waitpid(pid, 0)[1]
    assert (status, said()) == (0, ""), said()
    return ""


def test_ten_times(tmp_path: Path) -> None:
    ward.inside(tmp_path, _go_there_and_back, _DEADLINE)
