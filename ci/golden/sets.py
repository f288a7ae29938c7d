"""A golden set: one dump of the subject in one scenario, and what it takes to restore it.

zdtm/golden/SCENARIO.KERNEL.MACHINE.ENGINE.tar.xz holds

    work/     the directory that the subject was in: its program, what it said (out), its files
    images/   what the engine wrote

The subject runs at the same place and with the same pid each time, in a sandbox, where both are free.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zdtm.harness import sandbox
from zdtm.harness.init import Init
from zdtm.harness.sandbox import Result

CHECKOUT = Path(__file__).resolve().parents[2]
DIRECTORY = CHECKOUT / "zdtm/golden"
SOURCE = Path(__file__).with_name("subject.c")
SCENARIOS = "memory files family signals clocks".split()
NEW_SCENARIOS = ["droppable"]
"""What older kernels can't run the subject in: only its images get there."""
PLACE = Path("/mnt")
ROOT_PID = 1000
SECONDS = 60.0
CFLAGS = (
    "-static -nostdlib -Wl,-z,separate-code -ffreestanding -fno-stack-protector -fno-pie -no-pie "
    "-fno-tree-loop-distribute-patterns -O1 -s -D_GNU_SOURCE -Wall -Wextra -Werror"
).split()

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Golden:
    """A file of the set, by the words of its name."""

    path: Path

    @property
    def scenario(self) -> str:
        return self.path.name.split(".")[0]

    @property
    def machine(self) -> str:
        return self.path.name.removesuffix(".tar.xz").split(".")[-2]

    @property
    def engine(self) -> str:
        return self.path.name.removesuffix(".tar.xz").split(".")[-1]

    def unpack(self, into: Path) -> None:
        careful: Any = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}  # Debian 12's Python has no filters
        with tarfile.open(self.path) as archive:
            archive.extractall(into, **careful)


def all_sets() -> list[Golden]:
    return [Golden(path) for path in sorted(DIRECTORY.glob("*.tar.xz"))]


def compile_subject(compiler: str, to: Path) -> None:
    """Raises subprocess.CalledProcessError."""
    subprocess.run([compiler, *CFLAGS, f"-I{CHECKOUT / 'zdtm/lib'}", "-o", to, SOURCE], check=True)


def make(scenario: str, subject: Path, engine: list[str], name: str, directory: Path, scratch: Path) -> Path:
    """Run the subject, dump it, pack the set. engine: its command line; name: what the set calls it.

    scratch: a directory for what is between. Returns the new file; raises RuntimeError with what went wrong.
    """
    kept = scratch / "kept"

    def work() -> Result:
        init = _stage(None)
        shutil.copy(subject, PLACE / "subject")
        (PLACE / "out").touch()
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(ROOT_PID - 1))
        root = init.spawn([str(PLACE / "subject"), scenario], {}, PLACE, PLACE / "out")
        if not init.wait_for(lambda: "READY" in _said() or init.has_died(root), SECONDS):
            return Result("failed", "program", f"not ready: {_said()}")
        images = scratch / "images"
        images.mkdir()
        failed = _engine(init, [*engine, "dump", "-t", str(root), "-D", str(images), "-v4", "-o", "dump.log"])
        if not failed:
            shutil.copytree(PLACE, kept / "work")
            shutil.copytree(images, kept / "images", ignore=shutil.ignore_patterns("*.log", "stats-*"))
        return _result(failed, images / "dump.log")

    _in_sandbox(work, scratch)
    kernel = ".".join(platform.release().split(".")[:2])
    path = directory / f"{scenario}.{kernel}.{platform.machine()}.{name}.tar.xz"
    with tarfile.open(path, "w:xz", preset=9) as archive:
        for member in ("work", "images"):
            archive.add(kept / member, member, filter=_anonymous)
    return path


def restore(golden: Golden, engine: list[str], scratch: Path) -> None:
    """Restore a set and have the subject check itself. Raises RuntimeError with what went wrong."""
    content = scratch / "content"
    golden.unpack(content)

    def work() -> Result:
        init = _stage(content / "work")
        images = content / "images"
        failed = _engine(init, [*engine, "restore", "-d", "-D", str(images), "-v4", "-o", "restore.log"])
        if failed:
            return _result(failed, images / "restore.log")
        os.kill(ROOT_PID, signal.SIGTERM)
        status = init.wait_exit(ROOT_PID, SECONDS)
        passed = status == 0 and _said()[-1:] == ["PASS"]
        return Result("passed" if passed else "failed", "program", f"status {status}, said {_said()}")

    _in_sandbox(work, scratch)


def _in_sandbox(work: Callable[[], Result], scratch: Path) -> None:
    scale = float(os.environ.get("ZDTM_TIMEOUT_SCALE", "1"))
    result = sandbox.run(work, scratch, SECONDS * scale)
    if result.outcome != "passed":
        raise RuntimeError(f"{result.judge}: {result.text}")


def _stage(files: Path | None) -> Init:
    """A file system of its own at PLACE, with some files in it, as they were."""
    if _libc.mount(b"golden", os.fsencode(PLACE), b"tmpfs", 0, b"mode=755") < 0:
        raise OSError(ctypes.get_errno(), "mount")
    if files is not None:
        shutil.copytree(files, PLACE, dirs_exist_ok=True)
    os.chdir(PLACE)
    return Init()


def _engine(init: Init, command: list[str]) -> int:
    """Raw wait status."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(CHECKOUT)}
    output = Path(os.devnull)
    status = init.wait_exit(init.spawn(command, environment, Path("/"), output), 20 * SECONDS)
    return 1 if status is None else status


def _result(failed: int, log: Path) -> Result:
    lines = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
    return Result("failed" if failed else "passed", "engine", "\n".join([f"wait status {failed}", *lines]))


def _said() -> list[str]:
    return (PLACE / "out").read_text().splitlines()


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
