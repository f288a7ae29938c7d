"""Stopping a tree by its control group (--freeze-cgroup), so that no task escapes while the tree is being seized.

A frozen task does not come to a ptrace stop (v1), or can run no tape (v2): so the group is only frozen until every
thread has been told to stop, and then thawed. What is asked for meanwhile happens before a thread returns to its
program. At the end the group is what it was: one that its user has frozen is frozen again before any task is let go.

A process of its own keeps watch from the first change to the last: if the engine is killed, it puts the group back.

v1: Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst; v2: cgroup-v2.rst, cgroup.freeze.
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from engine import log
from engine.errors import CrError, text_of
from engine.kernel.procfs import read_cgroup_members

if TYPE_CHECKING:
    from engine.options import Options

_STEP_SECONDS = 0.0005


class _Form:
    """How a version of control groups is told and tells.

    control      the file that is written, and its words for frozen and not
    own          the file that says by "1" whether this very group is to be frozen
    is_frozen    (file, line) that says that all its tasks stand
    """

    def __init__(self, control: str, words: tuple[str, str], own: str, is_frozen: tuple[str, str]) -> None:
        self.control = control
        self.frozen, self.thawed = words
        self.own = own
        self.is_frozen = is_frozen


_FORMS = (
    _Form("freezer.state", ("FROZEN", "THAWED"), "freezer.self_freezing", ("freezer.state", "FROZEN")),
    _Form("cgroup.freeze", ("1", "0"), "cgroup.freeze", ("cgroup.events", "frozen 1")),
)


def of(opts: Options) -> Freezer | None:
    """The group that the user has named, if so. Raises CrError for one that can't be used."""
    return Freezer(opts.freeze_cgroup) if opts.freeze_cgroup else None


class Freezer:
    """One group. Whoever freezes it calls restore() in the end."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        form = next((form for form in _FORMS if os.path.exists(f"{directory}/{form.control}")), None)
        if form is None:
            what = "has neither freezer.state nor cgroup.freeze"
            raise CrError(f"--freeze-cgroup {directory}: {what} (name the directory of a control group)")
        self._form = form
        if os.getpid() in read_cgroup_members(directory):
            raise CrError(f"--freeze-cgroup {directory}: this engine is in it (start the engine from elsewhere)")
        self._was_frozen = self._says(form.own, "1")
        if self._stands() and not self._was_frozen:
            raise CrError(f"--freeze-cgroup {directory}: a group above it is frozen (thaw that first)")
        self._watch: tuple[int, int] | None = None

    def freeze(self) -> None:
        """Have no task of the group run. Returns when they all stand; whoever can't wait that long interrupts."""
        self._watch = self._start_watch()
        self._write(self._form.frozen)
        while not self._stands():  # of which v1 tells nobody
            time.sleep(_STEP_SECONDS)

    def thaw(self) -> None:
        """Let the tasks come to the stops that have been asked for."""
        self._write(self._form.thawed)
        if self._above_is_frozen():
            raise CrError(f"--freeze-cgroup {self._directory}: a group above it is frozen (thaw that first)")

    def restore(self) -> None:
        """Have the group as it was. Does nothing if it was never frozen here."""
        if self._watch is None:
            return
        try:
            self._write(self._original)
        except OSError as error:
            log.warn(f"the control group of --freeze-cgroup can't be {self._original}: {text_of(error)}")
        pid, channel = self._watch
        self._watch = None
        os.write(channel, b".")
        os.close(channel)
        os.waitpid(pid, 0)

    @property
    def _original(self) -> str:
        return self._form.frozen if self._was_frozen else self._form.thawed

    def _above_is_frozen(self) -> bool:
        """Whether a group above this one is frozen. What this one says does not tell after a thaw: if there is another
        group below it, of which a task has just left the frozen state to be seized, one of v2 goes on to say "frozen 1"
        until a task of its own leaves that state, which none does in a ptrace-stop (kernel/cgroup/freezer.c,
        cgroup_do_freeze; seen once in some thousand thaws)."""
        above = os.path.dirname(os.path.realpath(self._directory))
        while os.path.exists(f"{above}/{self._form.own}"):
            with open(f"{above}/{self._form.own}") as file:
                if file.read().strip() == "1":
                    return True
            above = os.path.dirname(above)
        return False

    def _stands(self) -> bool:
        return self._says(*self._form.is_frozen)

    def _says(self, name: str, line: str) -> bool:
        with open(f"{self._directory}/{name}") as file:
            return line in file.read().splitlines()

    def _write(self, word: str) -> None:
        with open(f"{self._directory}/{self._form.control}", "w") as file:
            file.write(word)

    def _start_watch(self) -> tuple[int, int]:
        """(pid, descriptor to send it away by) of the process that puts the group back when the engine dies. It is in
        the engine's groups, not in this one."""
        watches, channel = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                self._keep_watch(watches)
            finally:
                os._exit(0)
        os.close(watches)
        return pid, channel

    def _keep_watch(self, channel: int) -> None:
        """What ends an engine by its terminal does not end this."""
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.closerange(0, channel)
        os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
        if not os.read(channel, 1):
            self._write(self._original)
