"""Mounts of a process in a mount namespace of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.kernel.proc_mountinfo import Mount, parse_mount, read_mountinfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.kernel.subject import Subject


def test_mounts(start: Callable[[str], Subject], tmp_path: Path) -> None:
    names = {"plain": "plain", "odd": "a b\tc\nd\\e#f \udcff", "shared": "shared", "bind": "bind"}
    for name in names.values():
        (tmp_path / name).mkdir()
    subject = start(f"""
MS_BIND, MS_REC, MS_PRIVATE, MS_SLAVE, MS_SHARED = 1 << 12, 1 << 14, 1 << 18, 1 << 19, 1 << 20
def mount(source, target, fstype=b"", flags=0, data=b""):
    check(libc.mount(source, os.fsencode(target), fstype, ctypes.c_ulong(flags), data))
check(libc.unshare(0x00020000))
mount(b"", "/", flags=MS_REC | MS_PRIVATE)
at = {{key: {str(tmp_path)!r} + "/" + name for key, name in {names!r}.items()}}
mount(b"my source", at["plain"], b"tmpfs", 2 | 8, b"size=64k,mode=700")
mount(b"", at["odd"], b"tmpfs")
mount(b"s", at["shared"], b"tmpfs"); mount(b"", at["shared"], flags=MS_SHARED)
os.mkdir(at["shared"] + "/sub")
mount(os.fsencode(at["shared"]) + b"/sub", at["bind"], flags=MS_BIND); mount(b"", at["bind"], flags=MS_SLAVE)
tell(dev=os.stat(at["plain"]).st_dev)
""")
    mounts = {mount.mountpoint: mount for mount in read_mountinfo(subject.pid)}
    at = {key: mounts[str(tmp_path / name)] for key, name in names.items()}
    plain = at["plain"]
    assert (plain.dev, plain.root, plain.fstype, plain.source) == (subject.facts["dev"], "/", "tmpfs", "my source")
    assert {"rw", "nosuid", "noexec"} <= set(plain.options)
    assert {"size=64k", "mode=700"} <= set(plain.sb_options.split(","))
    assert (at["bind"].root, at["bind"].dev) == ("/sub", at["shared"].dev)
    root = mounts["/"]
    assert os.path.realpath(tmp_path) == str(tmp_path)
    assert {mount.parent_id for mount in at.values()} <= {mount.mnt_id for mount in mounts.values()}
    assert root.mnt_id not in {mount.mnt_id for mount in at.values()}


def test_empty_source_and_propagation() -> None:
    line = rb"48 30 0:44 / /mnt\040x ro,noatime shared:7 master:3 propagate_from:2 - fuse.sshfs  rw,user=a\054b"
    assert parse_mount(line) == Mount(
        48, 30, os.makedev(0, 44), "/", "/mnt x", ["ro", "noatime"], "fuse.sshfs", "", "rw,user=a,b"
    )
