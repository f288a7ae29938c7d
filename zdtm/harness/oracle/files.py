"""Facts about descriptors: what is open, which descriptors share an open file description, in which state it is."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import struct
import termios
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from zdtm.harness.oracle import sockets
from zdtm.harness.oracle.kernel import KCMP_FILE, KCMP_FILES, first_of_same, kcmp, open_thread, take_fd
from zdtm.harness.oracle.names import Names, opener
from zdtm.harness.oracle.tasks import Facts

O_CLOEXEC, O_PATH = 0o2000000, 0o10000000
F_GETSIG, F_GETOWN_EX, F_GETLEASE, F_GETPIPE_SZ, F_GET_SEALS = 11, 16, 1025, 1032, 1034
F_UNLCK = 2

# Numbers that are new after every restore; what they stand for is in the fact "is".
RENUMBERED = ("ino", "eventfd-id")


@dataclass(frozen=True)
class Descriptor:
    """One descriptor of one task as /proc shows it."""

    pid: int
    fd: int
    link: str
    status: os.stat_result
    info: tuple[tuple[str, str], ...]
    """lines of fdinfo"""

    @property
    def flags(self) -> int:
        return int(dict(self.info)["flags"], 8)

    @property
    def path(self) -> str:
        return f"/proc/{self.pid}/fd/{self.fd}"

    @property
    def holder(self) -> str:
        return f"{self.pid}:{self.fd}"

    @property
    def bucket(self) -> tuple[int, int, str, int]:
        """Equal for all descriptors of one open file description (and often for others)."""
        position = dict(self.info)["pos"]
        return self.status.st_dev, self.status.st_ino, position, self.flags & ~O_CLOEXEC


def add_file_facts(tasks: dict[int, Facts], living: list[int], names: Names) -> None:
    """Add the kinds files, locks, sockets and ttys to the tasks' facts."""
    table_of = first_of_same(living, lambda one, two: kcmp(one, two, KCMP_FILES))
    descriptors = [item for pid in living if table_of[pid] == pid for item in _descriptors(pid)]
    for item in descriptors:
        # All names first: a fact about one object may mention a later one.
        names.of(item.link, item.status, item.holder, opener(item.path))
    first = _open_file_descriptions(descriptors)
    unix = sockets.unix_states()
    for pid in living:
        tasks[pid]["files"] = {"table": f"that of {table_of[pid]}"}
        tasks[pid] |= {"locks": {}, "sockets": {}, "ttys": {}}
        pidfd = open_thread(pid)
        try:
            for item in (item for item in descriptors if item.pid == pid):
                _add_descriptor(tasks[pid], item, first[item.holder], names, unix, pidfd)
        finally:
            os.close(pidfd)


def _descriptors(pid: int) -> list[Descriptor]:
    found = []
    for fd in sorted(int(name) for name in os.listdir(f"/proc/{pid}/fd")):
        path = f"/proc/{pid}/fd/{fd}"
        info = Path(f"/proc/{pid}/fdinfo/{fd}").read_text()
        found.append(Descriptor(pid, fd, os.readlink(path), os.stat(path), tuple(_info_lines(info))))
    return found


def _info_lines(text: str) -> list[tuple[str, str]]:
    return [
        (key.strip(), " ".join(value.split())) for key, _, value in (line.partition(":") for line in text.splitlines())
    ]


def _open_file_descriptions(descriptors: list[Descriptor]) -> dict[str, str]:
    """Holder -> first holder of the same open file description."""
    buckets: dict[tuple[int, int, str, int], list[Descriptor]] = defaultdict(list)
    for item in descriptors:
        buckets[item.bucket].append(item)
    first: dict[str, str] = {}
    for members in buckets.values():
        same = first_of_same(members, lambda one, two: kcmp(one.pid, two.pid, KCMP_FILE, one.fd, two.fd))
        first |= {item.holder: same[item].holder for item in members}
    return first


def _add_descriptor(
    facts: Facts, item: Descriptor, first: str, names: Names, unix: dict[int, sockets.UnixState], pidfd: int
) -> None:
    files = facts["files"]
    files[f"{item.fd} is"] = names.of(item.link, item.status, item.holder, opener(item.path))
    files[f"{item.fd} flags"] = f"{item.flags:o}"
    if first != item.holder:
        files[f"{item.fd} is the open file of"] = first
        return
    mode = item.status.st_mode
    files[f"{item.fd} mode"] = f"{mode:o} of {item.status.st_uid}:{item.status.st_gid}"
    if stat.S_ISREG(mode):
        files[f"{item.fd} size"] = str(item.status.st_size)
    for key, value in item.info:
        kind, name, text = _fdinfo_fact(item, key, value, names)
        if kind:
            # Several watches of an epoll instance may have one number; the kernel sorts them by address.
            same = facts[kind].get(f"{item.fd} {name}")
            facts[kind][f"{item.fd} {name}"] = text if same is None else "; ".join(sorted([*same.split("; "), text]))
    if item.flags & O_PATH == 0:
        _add_by_copy(facts, item, names, unix, pidfd)


def _fdinfo_fact(item: Descriptor, key: str, value: str, names: Names) -> tuple[str, str, str]:
    """Kind, name and text of a line of fdinfo; no kind: nothing to compare. proc_pid_fdinfo(5)"""
    if key in RENUMBERED or key == "flags":
        return "", "", ""
    if key == "mnt_id":
        return "files", "mount", _mount_point(item.pid, value)
    if key == "lock":
        # "1: POSIX ADVISORY WRITE 42 fe:00:131 0 EOF". The number is a count, the file is known, and all but POSIX
        # locks belong to an open file, not to a task: there the pid is only who asked.
        _, kind, how, access, pid, _, start, end = value.split()
        owner = pid if kind == "POSIX" else "the open file"
        return "locks", f"{kind} from {start} to {end}", f"{how} {access} by {owner}"
    if key == "map_id":
        return "files", key, names.of_number("BPF map", value, item.holder)
    if key == "tfd":
        target, rest = value.split(" ", 1)
        return "files", f"watches {target}", re.sub(r" ino:\S+ sdev:\S+", "", rest)
    if key == "fanotify mnt_id":
        mount, rest = value.split(" ", 1)
        return "files", f"fanotify mount {_mount_point(item.pid, str(int(mount, 16)))}", rest
    if key.startswith(("inotify wd", "fanotify ino")):
        return "files", f"{key}:{value.split(' ', 1)[0]}", _watched(value, names)
    if key in ("it_value", "ticks"):
        return "files", key, _timer_fact(dict(item.info), key)
    return "files", key, value


def _watched(value: str, names: Names) -> str:
    """A mark, with the name of what it is on if that is an unlinked file, which is another one after every restore."""
    words = dict(word.split(":") for word in value.split() if ":" in word)
    if "ino" not in words and "sdev" not in words:
        return value
    device, inode = int(words["sdev"], 16), int(words.get("ino", value.split()[0]), 16)
    name = names.of_inode(os.makedev(device >> 20, device & 0xFFFFF), inode)
    return value if name is None else f"{name} mask:{words['mask']} ignored_mask:{words['ignored_mask']}"


def _timer_fact(info: dict[str, str], key: str) -> str:
    """What can be said of a timerfd. An interval timer that has expired shows one tick and no remaining time until
    somebody reads or looks at it, and only then starts again; it is the same timer before and after."""
    repeats = info["it_interval"] != "(0, 0)"
    ticks = int(info["ticks"])
    if key == "ticks":
        return "some" if repeats and ticks else str(ticks)
    return "armed" if info["it_value"] != "(0, 0)" or (repeats and ticks) else "not armed"


def _mount_point(pid: int, mount_id: str) -> str:
    for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
        words = line.split()
        if words[0] == mount_id:
            return words[4]
    return "internal"


def _add_by_copy(facts: Facts, item: Descriptor, names: Names, unix: dict[int, sockets.UnixState], pidfd: int) -> None:
    """Ask a copy of the descriptor. Closing it does nothing to the file: ours is never the last."""
    copy = take_fd(pidfd, item.fd)
    try:
        for name, text in _fcntl_facts(copy).items():
            facts["files"][f"{item.fd} {name}"] = text
        mode = item.status.st_mode
        if stat.S_ISFIFO(mode):
            facts["files"][f"{item.fd} pipe size"] = str(fcntl.fcntl(copy, F_GETPIPE_SZ))
            facts["files"][f"{item.fd} bytes in it"] = str(_readable(copy))
        elif stat.S_ISSOCK(mode):
            found = sockets.socket_facts(copy, item.status.st_ino, item.status.st_dev, names, unix)
            facts["sockets"] |= {f"{item.fd} {name}": text for name, text in found.items()}
        elif stat.S_ISCHR(mode) and os.isatty(copy):
            facts["ttys"] |= {f"{item.fd} {name}": text for name, text in _tty_facts(copy).items()}
    finally:
        os.close(copy)


def _fcntl_facts(copy: int) -> dict[str, str]:
    facts = {}
    kind, owner = struct.unpack("ii", fcntl.fcntl(copy, F_GETOWN_EX, bytes(8)))
    if owner != 0:
        facts["signals"] = f"{('thread', 'process', 'group')[kind]} {owner}"
    if number := fcntl.fcntl(copy, F_GETSIG):
        facts["with signal"] = str(number)
    for name, command, nothing in (("lease", F_GETLEASE, F_UNLCK), ("seals", F_GET_SEALS, None)):
        try:
            value = fcntl.fcntl(copy, command)
        except OSError:
            continue
        if value != nothing:
            facts[name] = str(value)
    return facts


def _readable(copy: int) -> int:
    count: int = struct.unpack("i", fcntl.ioctl(copy, termios.FIONREAD, bytes(4)))[0]
    return count


def _tty_facts(copy: int) -> dict[str, str]:
    facts = {"termios": repr(termios.tcgetattr(copy)), "bytes to read": str(_readable(copy))}
    rows, columns, width, height = struct.unpack("4H", fcntl.ioctl(copy, termios.TIOCGWINSZ, bytes(8)))
    facts["size"] = f"{rows}x{columns}, {width}x{height} pixels"
    return facts
