"""The third judge: what an engine left behind.

Most of it shows inside the sandbox, where nobody else works: processes, mounts, sockets, firewall tables. Directories
that all share (/tmp, /run) are searched for names of engines only, and a find counts when it stays.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from zdtm.harness.init import others

LEFT_BY_DUMP = ("link_remap.*", "*.cr.*.ghost", ".criu*", "*.criu.*")
SHARED_DIRECTORIES = ("/tmp", "/run", "/dev/shm", "/sys/fs/cgroup", "/sys/fs/cgroup/freezer", "/sys/fs/cgroup/unified")
NAMES_OF_ENGINES = (".criu*", "criu*", ".crtools*", "crtools*", "cr-tmpfs*", ".crucible*")
SETTLE_SECONDS = 5.0

NETLINK_NETFILTER, NFT_MSG_GETTABLE, NFNL_SUBSYS_NFTABLES = 12, 1, 10
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE, NFTA_TABLE_NAME = 1, 0x300, 2, 3, 1


@dataclass(frozen=True)
class Host:
    """What could be left, at one moment. Kind of thing -> the things."""

    things: dict[str, frozenset[str]]


def look(item_dir: Path, work: Path, temporary: Path) -> Host:
    """temporary: the directory the engine got as TMPDIR."""
    return Host(
        {
            "processes": frozenset(_processes()),
            "mounts": frozenset(_mounts()),
            "unix sockets": frozenset(_unix_sockets()),
            "nft tables": frozenset(_nft_tables()),
            "files of a dump in the work directory": frozenset(_remaps(work)),
            "temporary files": frozenset(_names(temporary)),
            "files beside the images": frozenset(name for name in _names(item_dir / "images") if not name.isdigit()),
            "files in shared directories": frozenset(_shared()),
        }
    )


def leftovers(before: Host, item_dir: Path, work: Path, temporary: Path) -> list[str]:
    """One line for each thing that is there now and was not before. Dying processes get a moment to go."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        now = look(item_dir, work, temporary).things
        found = [f"{kind}: {thing}" for kind in now for thing in sorted(now[kind] - before.things[kind])]
        if not found or time.monotonic() > end:
            return found
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.02)


def _processes() -> list[str]:
    found = []
    for pid in others():
        with contextlib.suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            found.append(f"{pid} ({command.strip() or Path(f'/proc/{pid}/comm').read_text().strip()})")
    return found


def _mounts() -> list[str]:
    """Mount points with their file systems. Ids and peer groups change without harm."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [f"{line.split()[4]} ({line.partition(' - ')[2]})" for line in lines]


def _unix_sockets() -> list[str]:
    """By address; the unnamed ones go with their processes."""
    lines = Path("/proc/net/unix").read_text(errors="backslashreplace").splitlines()[1:]
    return [words[7] for words in (line.split(maxsplit=7) for line in lines) if len(words) > 7]


def _remaps(work: Path) -> list[str]:
    names = (os.path.join(top, name) for top, _, files in os.walk(work) for name in files)
    return [name for name in names if any(fnmatch.fnmatch(os.path.basename(name), one) for one in LEFT_BY_DUMP)]


def _shared() -> list[str]:
    """criu.kdat is a cache that is meant to stay."""
    names = ((directory, name) for directory in SHARED_DIRECTORIES for name in _names(Path(directory)))
    return [
        f"{directory}/{name}"
        for directory, name in names
        if name != "criu.kdat" and any(fnmatch.fnmatch(name, pattern) for pattern in NAMES_OF_ENGINES)
    ]


def _names(directory: Path) -> list[str]:
    return os.listdir(directory) if directory.is_dir() else []


def _nft_tables() -> list[str]:
    """Names of the tables of this net namespace, by the netlink interface: the nft tool may not be installed."""
    header = struct.pack(
        "=IHHIIBBH", 20, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE, NLM_F_REQUEST | NLM_F_DUMP, 0, 0, 0, 0, 0
    )
    tables: list[str] = []
    try:
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
    except OSError:
        return tables  # a kernel without netfilter
    with netlink:
        netlink.send(header)
        while True:
            data = netlink.recv(1 << 16)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (NLMSG_DONE, NLMSG_ERROR):
                    return tables
                tables += _table_names(data[20:length])
                data = data[(length + 3) & ~3 :]


def _table_names(attributes: bytes) -> list[str]:
    names = []
    while len(attributes) >= 4:
        size, kind = struct.unpack_from("=HH", attributes)
        if kind == NFTA_TABLE_NAME:
            names.append(attributes[4:size].rstrip(b"\0").decode(errors="replace"))
        attributes = attributes[(size + 3) & ~3 :]
    return names
