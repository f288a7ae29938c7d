"""Freeze a living process tree into files, end it, and bring it back as if nothing had been.

A parent and two children pass a counter round: the parent sends a number down a socket pair, one child adds one, the
next child adds one, the parent writes down what comes back. Each of them keeps a megabyte of memory and its hash.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, NoReturn

PATIENCE = 20  # seconds
CRUCIBLE = [sys.executable, "-m", "engine"]


class Report(NamedTuple):
    """What the tree says of itself: the counter, the pids of all tasks, and the hash of all their memory."""

    counter: int
    pids: list[int]
    memory: str


def main() -> int:
    directory = Path(tempfile.mkdtemp(prefix="crucible-demo-"))
    images = directory / "images"
    images.mkdir()
    tree = 0
    try:
        tree = start_tree(directory)
        before = wait_for(directory, lambda report: report.counter > 20)
        show("A tree of three tasks is running:", before)

        started = time.monotonic()
        crucible("dump", "--tree", str(tree), "--images-dir", str(images))
        os.waitpid(tree, 0)
        taken = time.monotonic() - started
        at_dump = read(directory)
        alive = [pid for pid in before.pids if Path(f"/proc/{pid}").exists()]
        if alive:
            return fail(f"tasks {alive} should be gone")
        show(f"\nDumped in {taken * 1000:.0f} ms, and gone. It got as far as:", at_dump)
        list_images(images)

        started = time.monotonic()
        crucible("restore", "--restore-detached", "--images-dir", str(images))
        taken = time.monotonic() - started
        after = wait_for(directory, lambda report: report.counter > at_dump.counter + 20)
        show(f"\nRestored in {taken * 1000:.0f} ms. It goes on counting, with the same pids and memory:", after)
        if after.pids != before.pids or after.memory != before.memory:
            return fail("pids or memory are not what they were")
        return 0
    finally:
        stop_tree(tree)
        shutil.rmtree(directory)


def start_tree(directory: Path) -> int:
    """Fork a parent task in a session of its own, with nothing open but what it made itself. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setsid()
            os.chdir("/")
            null = os.open("/dev/null", os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            count_for_ever(directory / "report")
        finally:
            os._exit(1)
    return pid


def count_for_ever(report: Path) -> NoReturn:
    """The parent task."""
    first, first_in = socket.socketpair()
    middle_out, middle_in = socket.socketpair()
    last_out, last = socket.socketpair()
    memory = os.urandom(1 << 20)
    pids = [os.getpid(), add_one(first_in, middle_out), add_one(middle_in, last_out)]
    counter = 0
    while True:
        first.sendall(b"%d\n%b\n" % (counter, hashlib.sha256(memory).hexdigest().encode()))
        number, digest = last.recv(1000).split()
        counter = int(number)
        line = f"{counter} {','.join(map(str, pids))} {digest.decode()}"
        report.with_suffix(".new").write_text(line)
        report.with_suffix(".new").rename(report)
        time.sleep(0.01)


def add_one(source: socket.socket, target: socket.socket) -> int:
    """A child task: takes a number and a hash, gives one more, and the hash of that hash with its own memory."""
    pid = os.fork()
    if pid:
        return pid
    memory = os.urandom(1 << 20)
    while True:
        number, digest = source.recv(1000).split()
        target.sendall(b"%d\n%b\n" % (int(number) + 1, hashlib.sha256(digest + memory).hexdigest().encode()))


def crucible(verb: str, *args: str) -> None:
    words = ["crucible", verb, *args]
    print("$", *words, flush=True)
    status = subprocess.run([*CRUCIBLE, *words[1:]], check=False).returncode
    if status:
        raise SystemExit(f"demo failed: {verb} exited with status {status}")


def read(directory: Path) -> Report:
    counter, pids, memory = (directory / "report").read_text().split()
    return Report(int(counter), [int(pid) for pid in pids.split(",")], memory)


def wait_for(directory: Path, condition: Callable[[Report], bool]) -> Report:
    """The first report that meets the condition."""

    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            report = read(directory)
        except FileNotFoundError:
            pass
        else:
            if condition(report):
                return report
        time.sleep(0.01)
    raise SystemExit(f"the tree has not counted on for {PATIENCE} s")


def show(title: str, report: Report) -> None:
    print(title)
    print(f"    counter {report.counter}, pids {report.pids}, memory {report.memory[:16]}…", flush=True)


def list_images(images: Path) -> None:
    files = sorted(images.iterdir())
    total = sum(file.stat().st_size for file in files)
    print(f"\n{len(files)} files, {total / (1 << 20):.1f} MiB, in the images directory:")
    names = [f"{file.name} ({file.stat().st_size})" for file in files]
    width = max(map(len, names)) + 2
    columns = max(1, 100 // width)
    for start in range(0, len(names), columns):
        print("    " + "".join(name.ljust(width) for name in names[start : start + columns]).rstrip())
    print(flush=True)


def fail(reason: str) -> int:
    print(f"demo failed: {reason}", file=sys.stderr)
    return 1


def stop_tree(root: int) -> None:
    """End the tasks of our tree, which after a restore are no children of ours any more."""
    children = Path(f"/proc/{root}/task/{root}/children")
    try:
        pids = [root, *map(int, children.read_text().split())]
    except FileNotFoundError:
        return
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
