"""How long a verb took and how many pages it moved: stats-dump and stats-restore in the work directory.

Times are microseconds, counters are pages. A failure to write them is a warning: the dump itself is complete.
"""

from __future__ import annotations

import time

from engine import log
from engine.errors import CrError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.options import Options

_MAX_TIME = 0xFFFFFFFF  # times are uint32 in stats.proto: 71 minutes


class Timing:
    """Adds the duration of a `with` block to one of the times, also when the block fails."""

    def __init__(self, stats: Stats, name: str) -> None:
        self._stats = stats
        self._name = name

    def __enter__(self) -> None:
        self._start = time.monotonic_ns()

    def __exit__(self, *_: object) -> None:
        spent = (time.monotonic_ns() - self._start) // 1000
        setattr(self._stats, self._name, min(getattr(self._stats, self._name) + spent, _MAX_TIME))


class Stats:
    """The numbers of one verb. name: "dump" or "restore", the field of stats_entry and the end of the file name."""

    name: str
    labels: tuple[tuple[str, str], ...]

    def timing(self, name: str) -> Timing:
        """A context manager; name is one of the times, "frozen_time"."""
        return Timing(self, name)

    def write(self, opts: Options) -> None:
        """Write the file into the work directory, which is the current one, and print it for --display-stats."""
        from engine.images.directory import ImageDir
        from engine.images.schema import message

        entry = message("stats_entry")()
        for field, value in vars(self).items():
            setattr(getattr(entry, self.name), field, value)
        try:
            with ImageDir(".") as work_dir:
                work_dir.write("STATS", entry, self.name)
        except (CrError, OSError) as exc:
            log.warn(f"stats-{self.name} cannot be written to the work directory: {exc}")
        if opts.display_stats:
            self.display()

    def display(self) -> None:
        lines = [f"{self.name} statistics:"]
        for field, label in self.labels:
            value = getattr(self, field)
            lines.append(f"    {label}: {value} us" if field.endswith("_time") else f"    {label}: {value}")
        print("\n".join(lines), flush=True)


class DumpStats(Stats):
    """freezing: until all tasks stand; frozen: until they go on or are gone; memdump: finding and fetching pages;
    memwrite: writing them. Here tasks write their own pages, so memwrite is a part of memdump."""

    name = "dump"
    labels = (
        ("freezing_time", "Freezing time"),
        ("frozen_time", "Frozen time"),
        ("memdump_time", "Memory dump time"),
        ("memwrite_time", "Memory write time"),
        ("pages_scanned", "Memory pages scanned"),
        ("pages_skipped_parent", "Memory pages skipped from parent"),
        ("pages_written", "Memory pages written"),
        ("pages_lazy", "Lazy memory pages"),
        ("shpages_scanned", "Shared memory pages scanned"),
        ("shpages_skipped_parent", "Shared memory pages skipped from parent"),
        ("shpages_written", "Shared memory pages written"),
    )

    def __init__(self) -> None:
        self.freezing_time = 0
        self.frozen_time = 0
        self.memdump_time = 0
        self.memwrite_time = 0
        self.pages_scanned = 0
        self.pages_skipped_parent = 0
        self.pages_written = 0
        self.pages_lazy = 0
        self.shpages_scanned = 0
        self.shpages_skipped_parent = 0
        self.shpages_written = 0


class RestoreStats(Stats):
    """forking: until all tasks exist; restore: until they are ready to run."""

    name = "restore"
    labels = (
        ("pages_compared", "Pages compared"),
        ("pages_skipped_cow", "Pages skipped copy-on-write"),
        ("pages_restored", "Pages restored"),
        ("restore_time", "Restore time"),
        ("forking_time", "Forking time"),
    )

    def __init__(self) -> None:
        self.pages_compared = 0
        self.pages_skipped_cow = 0
        self.forking_time = 0
        self.restore_time = 0
        self.pages_restored = 0
