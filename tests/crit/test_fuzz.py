"""Coverage-guided fuzzing for a bounded time. CRUCIBLE_FUZZ_SECONDS makes it longer."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.version_info >= (3, 14),
    reason="atheris is made for x86_64 and Python up to 3.13 only, tox.ini has it there",
)
def test_images_and_json_made_up_by_atheris(tmp_path: Path) -> None:
    seconds = os.environ.get("CRUCIBLE_FUZZ_SECONDS", "10")
    words = [sys.executable, "-m", "tests.crit.fuzz", seconds, str(tmp_path / "corpus")]
    run = subprocess.run(words, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-5000:]
    done = re.search(r"Done (\d+) runs", run.stderr)
    assert done, run.stderr[-5000:]
    assert int(done[1]) > 100
