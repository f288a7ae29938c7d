"""stats-dump and stats-restore."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from engine.images.directory import ImageDir
from engine.options import Options
from engine.stats import DumpStats, RestoreStats
from engine.task import seize
from tests.waiting import wait_until
from zdtm.lib.libc import PR_SET_CHILD_SUBREAPER, prctl


@pytest.fixture(autouse=True)
def _in_work_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_dump_stats_come_back(tmp_path: Path) -> None:
    stats = DumpStats()
    stats.frozen_time, stats.pages_written, stats.shpages_written = 1200, 7, 2
    stats.write(Options())
    assert (tmp_path / "stats-dump").exists()
    entry = ImageDir(".").read_one("STATS", "dump")
    assert (entry.dump.frozen_time, entry.dump.pages_written, entry.dump.shpages_written) == (1200, 7, 2)
    assert not entry.HasField("restore")


def test_restore_stats_come_back() -> None:
    stats = RestoreStats()
    stats.pages_restored = 9
    stats.write(Options())
    assert ImageDir(".").read_one("STATS", "restore").restore.pages_restored == 9


def test_a_time_is_the_sum_of_its_blocks_in_microseconds_also_of_one_that_fails() -> None:
    stats = DumpStats()
    before = time.monotonic_ns()
    with stats.timing("freezing_time"):
        while time.monotonic_ns() - before < 2_000_000:
            pass
    once = stats.freezing_time
    assert once >= 1900
    with pytest.raises(KeyError), stats.timing("freezing_time"):
        raise KeyError
    assert once <= stats.freezing_time <= (time.monotonic_ns() - before) // 1000


def test_a_time_that_does_not_fit_is_the_largest() -> None:
    stats = DumpStats()
    stats.frozen_time = 0xFFFFFFFF
    with stats.timing("frozen_time"):
        pass
    assert stats.frozen_time == 0xFFFFFFFF


def test_display_stats(capsys: pytest.CaptureFixture[str]) -> None:
    opts = Options()
    opts.display_stats = True
    stats = RestoreStats()
    stats.restore_time, stats.pages_restored = 55, 3
    stats.write(opts)
    out = capsys.readouterr().out
    assert "Restore time: 55 us" in out
    assert "Pages restored: 3\n" in out


def test_stats_that_cannot_be_written_are_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stats-dump").mkdir()
    DumpStats().write(Options())
    assert "Warn" in capfd.readouterr().err


def test_every_number_has_a_label() -> None:
    for stats in (DumpStats(), RestoreStats()):
        assert set(vars(stats)) == {field for field, _ in stats.labels}


def test_a_tree_that_waits_to_be_reaped_is_no_longer_frozen(tmp_path: Path) -> None:
    """This process inherits the orphan of the tree, and as long as it does not reap it the dump waits."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    shell = subprocess.Popen(["sh", "-c", "sleep 1000 & wait"], start_new_session=True)
    children = Path(f"/proc/{shell.pid}/task/{shell.pid}/children")
    orphan = 0
    try:
        wait_until(children.read_text, "the shell has a child")
        orphan = int(children.read_text())
        words = ["dump", "-t", str(shell.pid), "-D", str(tmp_path), "--shell-job"]
        subprocess.run([sys.executable, "-m", "engine", *words], check=True)
        assert 0 < ImageDir(".").read_one("STATS", "dump").dump.frozen_time < seize.REAPING_SECONDS * 1_000_000
    finally:
        shell.kill()
        shell.wait()
        if orphan:
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)
        prctl(PR_SET_CHILD_SUBREAPER, 0)
