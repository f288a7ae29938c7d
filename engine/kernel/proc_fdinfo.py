"""/proc/PID/fdinfo/FD: position and flags of a descriptor, and what its kind adds (proc_pid_fdinfo(5)).

read_fdinfo() takes the lines that all kinds have; fdinfo_eventfd() and so on parse the rest when asked to.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from engine.kernel.proc_locks import FileLock, parse_lock
from engine.kernel.procfs import raise_missing


class FdInfo(NamedTuple):
    """pos: file offset; flags: of open(2), with O_CLOEXEC if the descriptor has FD_CLOEXEC; mnt_id: as in mountinfo.

    ino     inode number, None before Linux 5.14
    lines   everything below, as it stands, "lock:" lines among it
    """

    pos: int
    flags: int
    mnt_id: int
    ino: int | None
    lines: list[str]


def read_fdinfo(pid: int, fd: int) -> FdInfo:
    """Raises FileNotFoundError when fd is not open."""
    path = f"/proc/{pid}/fdinfo/{fd}"
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # One show() writes the whole text, so that a read(2) which leaves room has got all of it.
            data = os.read(file, 16384)
            while len(data) % 16384 == 0 and (chunk := os.read(file, 1 << 20)):
                data += chunk
        finally:
            os.close(file)
    except OSError as error:
        raise_missing(path, error)
    return parse_fdinfo(data)


def parse_fdinfo(data: bytes) -> FdInfo:
    pos, flags, mnt_id, *lines = os.fsdecode(data).split("\n")
    lines.pop()
    ino = int(lines.pop(0)[5:]) if lines and lines[0].startswith("ino:\t") else None
    return FdInfo(int(pos[5:]), int(flags[7:], 8), int(mnt_id[8:]), ino, lines)


def fdinfo_fields(info: FdInfo) -> dict[str, str]:
    """The lines of a kind that has one "key: value" a line, blanks stripped: "eventfd-count", "Pid", "tty-index"."""
    fields = {}
    for line in info.lines:
        key, colon, value = line.partition(":")
        if colon:
            fields[key] = value.strip()
    return fields


def fdinfo_locks(info: FdInfo) -> list[FileLock]:
    """Locks and leases taken through this file description, or through this descriptor table for POSIX ones."""
    return [parse_lock(line[6:]) for line in info.lines if line.startswith("lock:\t")]


class Eventfd(NamedTuple):
    """semaphore: made with EFD_SEMAPHORE; None before Linux 6.5, which does not show it."""

    counter: int
    semaphore: bool | None


def fdinfo_eventfd(info: FdInfo) -> Eventfd:
    fields = fdinfo_fields(info)
    semaphore = fields.get("eventfd-semaphore")
    return Eventfd(int(fields["eventfd-count"], 16), None if semaphore is None else semaphore == "1")


class EpollTarget(NamedTuple):
    """One item of an epoll set.

    tfd        number the descriptor had when it was added; it may since have been closed or given to another file
    events     EPOLL flags
    data       the word to report
    pos, ino   of the file; ino and sdev help to tell whether tfd is still the same one. 0 before Linux 4.13.
    sdev       device number as the kernel has it: see decode_sdev()
    """

    tfd: int
    events: int
    data: int
    pos: int
    ino: int
    sdev: int


def fdinfo_epoll(info: FdInfo) -> list[EpollTarget]:
    """Targets in the order the kernel shows them."""
    targets = []
    for line in info.lines:
        # "tfd:        5 events:       19 data:                5  pos:0 ino:61af sdev:7": blanks after some colons
        if line.startswith("tfd:"):
            tfd, events, data, *rest = line.replace(":", ": ").split()[1::2]
            pos, ino, sdev = rest or ("0", "0", "0")
            targets.append(
                EpollTarget(int(tfd), int(events, 16), int(data, 16), int(pos), int(ino, 16), int(sdev, 16))
            )
    return targets


def decode_sdev(sdev: int) -> int:
    """The kernel's own form of a device number (20 bits of minor number) as os.makedev() would have it."""
    return os.makedev(sdev >> 20, sdev & 0xFFFFF)


def fdinfo_signalfd(info: FdInfo) -> int:
    """The signals it accepts, as a mask."""
    return int(fdinfo_fields(info)["sigmask"], 16)


class Timerfd(NamedTuple):
    """clockid: CLOCK_ number; ticks: expirations not read yet; settime_flags: TFD_TIMER_ABSTIME, .._CANCEL_ON_SET.

    value     (seconds, nanoseconds) until the next expiration, even if it was set as an absolute time; zeros: disarmed
    interval  (seconds, nanoseconds), zeros for a single shot
    """

    clockid: int
    ticks: int
    settime_flags: int
    value: tuple[int, int]
    interval: tuple[int, int]


def fdinfo_timerfd(info: FdInfo) -> Timerfd:
    fields = fdinfo_fields(info)
    return Timerfd(
        int(fields["clockid"]),
        int(fields["ticks"]),
        int(fields["settime flags"], 8),
        _timespec(fields["it_value"]),
        _timespec(fields["it_interval"]),
    )


def _timespec(text: str) -> tuple[int, int]:
    seconds, nanoseconds = text.strip("()").split(", ")
    return int(seconds), int(nanoseconds)


class FileHandle(NamedTuple):
    """A file as name_to_handle_at(2) names it: open_by_handle_at(2) finds it again on the same file system."""

    type: int
    handle: bytes


class InotifyWatch(NamedTuple):
    """One watch. mask: IN_ events with the kernel's own bits among them; sdev: see decode_sdev().

    handle   None where the file system can't be exported, or the kernel lacks CONFIG_EXPORTFS
    """

    wd: int
    ino: int
    sdev: int
    mask: int
    handle: FileHandle | None


def fdinfo_inotify(info: FdInfo) -> list[InotifyWatch]:
    """Watches in the order the kernel shows them: the newest first."""
    watches = []
    for line in info.lines:
        if line.startswith("inotify wd:"):
            fields = _pairs(line)
            watches.append(
                InotifyWatch(
                    int(fields["wd"], 16),
                    int(fields["ino"], 16),
                    int(fields["sdev"], 16),
                    int(fields["mask"], 16),
                    _file_handle(fields),
                )
            )
    return watches


class FanotifyMark(NamedTuple):
    """One mark, of the kind whose key is there: ino (with sdev and handle) an inode, mnt_id a mount, mnt_ns a mount
    namespace (Linux 6.14), sdev alone a whole file system.

    mflags   FAN_MARK_ flags that stay with a mark
    mask     events; ignored_mask: events it suppresses
    """

    ino: int | None
    sdev: int | None
    mnt_id: int | None
    mnt_ns: int | None
    mflags: int
    mask: int
    ignored_mask: int
    handle: FileHandle | None


class Fanotify(NamedTuple):
    """flags: of fanotify_init(2), without the class's close-on-exec; event_flags: open flags of the event files."""

    flags: int
    event_flags: int
    marks: list[FanotifyMark]


def fdinfo_fanotify(info: FdInfo) -> Fanotify:
    flags = event_flags = 0
    marks = []
    for line in info.lines:
        if not line.startswith("fanotify "):
            continue
        fields = _pairs(line)
        if "flags" in fields:
            flags, event_flags = int(fields["flags"], 16), int(fields["event-flags"], 16)
            continue
        ino, sdev, mnt_id, mnt_ns = (
            int(fields[key], 16) if key in fields else None for key in ("ino", "sdev", "mnt_id", "mnt_ns")
        )
        mflags, mask, ignored_mask = (int(fields[key], 16) for key in ("mflags", "mask", "ignored_mask"))
        marks.append(FanotifyMark(ino, sdev, mnt_id, mnt_ns, mflags, mask, ignored_mask, _file_handle(fields)))
    return Fanotify(flags, event_flags, marks)


def _pairs(line: str) -> dict[str, str]:
    """"inotify wd:1 ino:61af" as {"wd": "1", "ino": "61af"}."""
    fields = {}
    for word in line.split()[1:]:
        key, _, value = word.partition(":")
        fields[key] = value
    return fields


def _file_handle(fields: dict[str, str]) -> FileHandle | None:
    if "f_handle" not in fields:
        return None
    return FileHandle(int(fields["fhandle-type"], 16), bytes.fromhex(fields["f_handle"]))


class Pidfd(NamedTuple):
    """pid: in the pid namespace that /proc is mounted for: 0 for a task outside it, -1 for one that has been reaped.

    ns_pids  from that namespace down to the task's own, empty when pid is 0 or -1
    """

    pid: int
    ns_pids: tuple[int, ...]


def fdinfo_pidfd(info: FdInfo) -> Pidfd:
    fields = fdinfo_fields(info)
    pid = int(fields["Pid"])
    ns_pids = tuple(int(number) for number in fields.get("NSpid", "").split()) if pid > 0 else ()
    return Pidfd(pid, ns_pids)
