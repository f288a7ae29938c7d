"""What crit diff says of dumps before and after something has happened."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from engine.crit.diff import diff
from engine.errors import CrError
from tests.crit.puppet import crit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.crit.puppet import Puppet


@pytest.fixture
def differences(puppet: Puppet, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Callable[[str], list[str]]:
    """What crit diff says of dumps before and after the puppet has done something."""

    def run(text: str) -> list[str]:
        first = puppet.dump(tmp_path / "first", "-R")
        puppet.do(text)
        second = puppet.dump(tmp_path / "second", "-R")
        assert diff(first, first)
        assert diff(second, second)
        assert capfd.readouterr().out == ""
        same = diff(first, second)
        lines = capfd.readouterr().out.splitlines()
        assert same == (not lines)
        return [line.removeprefix(f"task {puppet.pid}: ") for line in lines]

    return run


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("os.close(pipe[0])", r"fd \d+ \(pipe pipe\[\d+/\d+\] read\) is gone"),
        ("os.dup(file)", r"fd \d+ \(file .*/file\) is new"),
        ("os.lseek(file, 100, 0)", r"fd \d+ \(file .*/file\): pos was 0, is 100"),
        ("os.write(pipe[1], b'more')", r"fd \d+ \(.* write\): had 6 bytes queued, has 10"),
        ("pair[0].send(b'data')", r"fd \d+ \(unix STREAM .*\): had 0 bytes queued, has 4"),
        ("os.set_inheritable(file, True)", r"fd \d+ \(file .*/file\): close-on-exec was 1, is 0"),
        ("os.dup2(os.open('/dev/zero', 0), file)", r"fd \d+ was file .*/file, is device /dev/zero"),
        ("os.umask(0o77)", r"its umask was 0022, is 0077"),
        ("os.mkdir('d'); os.chdir('d'); os.chdir('..'); os.nice(3)", r"thread \d+: sched_nice was 0, is 3"),
        ("libc = ctypes.CDLL(None); libc.setfsgid(7)", r"thread \d+: its credentials differ: fsgid was 0, is 7"),
        ("signal.signal(signal.SIGUSR1, signal.SIG_IGN)", "the action of signal 10: sigaction was 0x0, is 0x1"),
        ("open('/proc/self/comm', 'w').write('renamed')", "comm was .*, is renamed"),
        ("threading.Thread(target=time.sleep, args=(999,), daemon=True).start()", r"thread \d+ is new"),
        ("private[4096] = private[9 * 4096] = 0", r"pages that differ, \d+: .*"),
        ("shared[5000] = 9", r"memfd:/dev/zero: pages (that differ|only in the second), 1: .*"),
        ("more = mmap.mmap(-1, 40960, mmap.MAP_PRIVATE)", r"mapping .* (is new|grew to .*)"),
        ("private.resize(2 << 20)", r"mapping .* (moved to .*|grew to .*|is gone)"),
        ("if os.fork() == 0: signal.pause()", r"task \d+ \(.*\) is new"),
    ],
)
def test_a_difference(text: str, line: str, differences: Callable[[str], list[str]]) -> None:
    found = differences(text)
    assert any(re.fullmatch(line, each) for each in found), found


def test_tasks_that_are_gone(puppet: Puppet, tmp_path: Path) -> None:
    puppet.do("child = os.fork()\nif child == 0: signal.pause()")
    first = puppet.dump(tmp_path / "first", "-R")
    puppet.do("os.kill(child, 9); os.waitpid(child, 0)")
    result = crit("diff", first, puppet.dump(tmp_path / "second", "-R"))
    assert (result.returncode, result.stderr) == (1, "")
    assert re.search(r"^task \d+ \(.*\) is gone$", result.stdout, re.MULTILINE)


def test_objects_keep_their_names(puppet: Puppet, tmp_path: Path) -> None:
    """A socket that has lost its first descriptor is still the peer it was."""
    puppet.do("child = os.fork()\nif child == 0:\n  while True: signal.pause()")
    first = puppet.dump(tmp_path / "first", "-R")
    puppet.do("pair[1].close()")
    result = crit("diff", first, puppet.dump(tmp_path / "second", "-R"))
    assert re.findall(r"^task (\d+): fd (\d+) .*", result.stdout, re.MULTILINE) == [(str(puppet.pid), "7")]


def test_nothing_differs(rich: str) -> None:
    result = crit("diff", rich, rich)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_an_error_is_no_difference(rich: str, tmp_path: Path) -> None:
    result = crit("diff", rich, str(tmp_path))
    assert (result.returncode, result.stdout) == (1, "")
    assert re.fullmatch(r"Error \(\S+\): .*pstree.img.* is missing.*\n", result.stderr)
    with pytest.raises(CrError):
        diff(str(tmp_path), rich)
