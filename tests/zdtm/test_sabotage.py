"""The judge of the judges: images are damaged as ordered, and the tests of that kind of state turn red."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.images.directory import ImageDir
from engine.images.schema import message
from zdtm.harness.sabotage import KINDS, damage

CHECKOUT = Path(__file__).parent.parent.parent
REG, PIPE = 1, 2


def entry(name: str, **fields: Any) -> Any:
    """A message with some fields set; required ones that do not matter are left out, so it is not written yet."""
    return message(name)(**fields)


def fdinfo(fd: int, flags: int) -> Any:
    return entry("fdinfo_entry", id=fd, type=REG, fd=fd, flags=flags)


def reg_file(number: int, flags: int, pos: int) -> Any:
    owner = {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}
    reg = {"id": number, "flags": flags, "pos": pos, "fown": owner, "name": "/x"}
    return entry("file_entry", type=REG, id=number, reg=reg)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_damage(tmp_path: Path, kind: str) -> None:
    assert damage(kind, tmp_path) == 0
    assert list(tmp_path.iterdir()) == []


def test_fields(tmp_path: Path) -> None:
    with ImageDir(str(tmp_path)) as images:
        images.write("FDINFO", [fdinfo(1, 0), fdinfo(3, 0), fdinfo(4, 1)], 2)
        images.write("FILES", [reg_file(1, 0o2001, 6), reg_file(2, 0, 5), reg_file(3, 0, 0)])
        assert damage("cloexec", tmp_path) == 2
        assert [item.flags for item in images.read("FDINFO", 2)] == [0, 1, 0]
        assert damage("file-pos", tmp_path) == 1
        assert [item.reg.pos for item in images.read("FILES")] == [6, 0, 0]
        assert damage("file-pos", tmp_path) == 0


def test_payloads(tmp_path: Path) -> None:
    with ImageDir(str(tmp_path)) as images:
        with images.writer("PIPES_DATA") as writer:
            for number, data in enumerate((b"abc", b"", b"de")):
                writer.put(entry("pipe_data_entry", pipe_id=number, bytes=len(data), size=65536))
                writer.put_payload(data)
        assert damage("pipe-bytes", tmp_path) == 2
        with images.reader("PIPES_DATA") as reader:
            assert [reader.payload() for _ in reader] == [b"\x9e\x9d\x9c", b"", b"\x9b\x9a"]
        assert damage("pipe-data", tmp_path) == 2
        with images.reader("PIPES_DATA") as reader:
            assert [(item.bytes, reader.payload()) for item in reader] == [(0, b"")] * 3


def test_dropped_entries(tmp_path: Path) -> None:
    with ImageDir(str(tmp_path)) as images:
        lock = entry("file_lock_entry", flag=1, type=1, pid=2, fd=3, start=0, len=0)
        images.write("FILE_LOCKS", [lock, lock])
        assert damage("locks", tmp_path) == 2
        assert list(images.read("FILE_LOCKS")) == []


def test_one_byte_of_a_page(tmp_path: Path) -> None:
    (tmp_path / "pages-7.img").write_bytes(bytes(4096 * 3))
    with ImageDir(str(tmp_path)) as images:
        runs = [entry("pagemap_entry", vaddr=4096, nr_pages=3, compat_nr_pages=3, flags=4)]
        images.write("PAGEMAP", [entry("pagemap_head", pages_id=7), *runs], 2)
    assert damage("private-page", tmp_path) == 1
    changed = [offset for offset, byte in enumerate((tmp_path / "pages-7.img").read_bytes()) if byte]
    assert changed == [4096 + 2048]


# With the engine of this checkout: a kind of damage and the programs whose state it is.
NOTICED = [
    ("pipe-data", "pipe_full or fifo_full"),
    ("eventfd-counter", "eventfd"),
    ("cloexec", "fd_cloexec"),
    ("file-pos", "file_offset"),
    ("umask", "fs_umask"),
    ("sigmask", "pipe_full"),
    ("private-page", "fork_cow"),
    ("shared-page", "shmem_fork"),
    ("ghost-content", "ghost_file"),
    ("socket-queue", "unix_queues"),
    ("epoll-target", "epoll_nested"),
    ("locks", "lock_posix"),
    ("capabilities", "capabilities"),
    ("posix-timers", "posix_timers"),
]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")
@pytest.mark.parametrize(("kind", "programs"), NOTICED)
def test_programs_notice(tmp_path: Path, kind: str, programs: str) -> None:
    """As `pytest zdtm --sabotage KIND`: every selected program had such state, and none of them passed."""
    command = [sys.executable, "-m", "pytest", "zdtm", "-q", "-o", f"cache_dir={tmp_path}/cache"]
    options = ["--sabotage", kind, "-k", f"({programs}) and cli", "--artifacts", str(tmp_path / "artifacts")]
    said = subprocess.run([*command, *options], cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout
    summary = re.search(r"(\d+) tests noticed; (\d+) had such state and did not", said)
    assert summary is not None, said
    assert int(summary[1]) >= 1, said
    assert summary[2] == "0", said
    assert not re.search(r"dump: (exit|killed)", said), said
