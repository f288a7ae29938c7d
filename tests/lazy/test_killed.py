"""The daemon, or the restore, is killed at a step of a lazy restore: the tree is dead or has all of its memory, and
nobody waits for somebody who is dead."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from tests.waiting import wait_until

if TYPE_CHECKING:
    from tests.lazy.conftest import Lazy

_KILL = """#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = {step} ] || exit 0
kill -KILL {victim}
while grep -sq "State:.[^Z]" /proc/{victim}/status; do sleep 0.01; done
"""
_STEPS = ["pre-restore", "post-restore", "pre-resume", "post-resume"]


def _restore(lazy: Lazy, step: str, victim: str) -> int:
    """Restore, and at that step kill a process: a pid, or what a shell makes into one. Returns the exit status."""
    script = lazy.place / "kill.sh"
    script.write_text(_KILL.format(step=step, victim=victim))
    script.chmod(0o755)
    return lazy.run("restore", "-d", "--lazy-pages", "--action-script", str(script))


@pytest.mark.parametrize("step", _STEPS)
def test_daemon(lazy: Lazy, step: str) -> None:
    """The restore fails and says why. Of the tree of one that has worked, the guard tells."""
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    status = _restore(lazy, step, str(lazy.daemon_pid))
    assert lazy.daemon.wait(30) == -signal.SIGKILL
    wait_until(lazy.is_gone, "the task is dead")
    if step != "post-resume":
        assert status == 1
        assert re.search(r"Error .*: the lazy-pages daemon has (ended|died)", lazy.log("restore"))
    else:
        assert status == 0
        assert "the tasks that need it are killed" in lazy.log("lazy-pages")


@pytest.mark.parametrize("step", _STEPS)
def test_restore(lazy: Lazy, step: str) -> None:
    lazy.start("read_all")
    lazy.dump()
    lazy.serve()
    status = _restore(lazy, step, "$PPID")
    if step == "post-resume":
        lazy.act()
        lazy.check_result()
        lazy.check_served()
        return
    assert status == 1
    wait_until(lazy.is_gone, "nothing of the tree is left")
    if step == "pre-restore":
        lazy.restore()
        lazy.check_served()
    else:
        assert lazy.daemon.wait(30) == 1
        assert "the restore has ended without success" in lazy.log("lazy-pages")
