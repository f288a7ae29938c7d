"""A run whose tree stands where it was dumped until a lazy restore in another sandbox has fetched its memory.

The other sandbox has the same files, as two machines have that share a file system, and nothing else in common with the
first: not even a network. A socket that both sides are given joins them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

from zdtm.harness import host, sandbox
from zdtm.harness.init import Init, descendants, doings
from zdtm.harness.item import ITEM_SECONDS, Bad, NothingToSabotage
from zdtm.harness.lazy_run import LazyRun
from zdtm.harness.sandbox import Result

_PAGES_FD = 8
_ENGINE_PIDS = 10_000
"""From here on the engine's own pids are in the other sandbox, so that those of the tree are free."""
_PAGES = ["--ps-socket", str(_PAGES_FD)]


class LazyRemoteRun(LazyRun):
    """The dump runs from dump_and_stand() to see_off(), and what is done elsewhere in between."""

    _dump = 0
    _tree: list[int]
    _ends: tuple[socket.socket, socket.socket]

    def dump_and_stand(self, number: int) -> None:
        """Start a dump into image directory `number`, and wait until its pages can be fetched."""
        self._tree = descendants(self.root)
        # What the tree itself has made here, a mount for instance, stays when it leaves.
        self._host = host.look(self.item.directory, self.work, self.temporary)
        self._ends = socket.socketpair()
        images = self._images(number)
        images.mkdir()
        given = [*self._plugins, *self._outside.dump_options(), "--lazy-pages", *_PAGES]
        options = ["-t", str(self.root), *self.program.dump_options, *given]
        with self._timed("dump"), self._ends[0] as end:
            descriptors = {**self._outside.descriptors, _PAGES_FD: end.fileno()}
            self._dump = self._start_server([*self.item.engine, "dump"], images, options, descriptors)

    def elsewhere(self, steps: Callable[[], None]) -> None:
        """Do what is left to be done in another sandbox. Nothing that it changes in this object is seen here."""
        directory = self.item.directory / "there"
        directory.mkdir()
        with self._ends[1]:
            keeper = sandbox.start_elsewhere(lambda: self._do(steps), directory)
        if self.init.wait_exit(keeper, self._limit(ITEM_SECONDS)) is None:
            raise Bad("engine", f"the restored tree does not end\n{doings()}")
        result = sandbox.result_of(directory)
        self.seconds |= result.seconds
        if result.outcome == "failed":
            raise Bad(result.judge, result.text)
        if result.outcome == "skipped":
            raise NothingToSabotage(result.text)

    def _do(self, steps: Callable[[], None]) -> Result:
        self.init = Init()
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(_ENGINE_PIDS))
        # Namespaces are not carried over: these are the other machine's.
        self.kinds.discard("namespaces")
        self._host = host.look(self.item.directory, self.work, self.temporary)
        try:
            steps()
            self.check_host()
        except Bad as bad:
            return Result("failed", bad.judge, bad.text, self.seconds)
        except NothingToSabotage as reason:
            return Result("skipped", text=str(reason))
        return Result("passed", seconds=self.seconds)

    def _source(self) -> tuple[list[str], dict[int, int]]:
        return _PAGES, {_PAGES_FD: self._ends[1].fileno()}

    def see_off(self, number: int) -> None:
        """The dump must have succeeded, and its tree be gone."""
        self._await_success("dump", self._dump, self._images(number))
        self._expect_gone(self._tree)
