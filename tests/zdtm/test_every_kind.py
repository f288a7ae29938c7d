"""Every kind of sabotage turns a program of the suite red, with the real engine: the one that is about that state."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from zdtm.harness.sabotage import KINDS

CHECKOUT = Path(__file__).parents[2]

CAUGHT_BY = {
    "altstack": "sigaltstack_thread.c",
    "brk": "heap_end.c",
    "capabilities": "capabilities.c",
    "cloexec": "fd_cloexec.py",
    "comm": "mm_strings.py",
    "cwd": "fs_cwd.py",
    "epoll-target": "epoll_targets.c",
    "eventfd-counter": "eventfd.py",
    "exit-code": "zombies.py",
    "fifo-data": "fifo_full.py",
    "file-flags": "file_flags.py",
    "file-pos": "file_offset.py",
    "fown": "fown.py",
    "ghost-content": "ghost_shared.py",
    "groups": "groups.py",
    "inotify-events": "inotify_waiting.py",
    "inotify-watches": "inotify_quiet.py",
    "itimers": "itimers_one_shot.py",
    "locks": "flock.py",
    "madvise": "memory_madvise.py",
    "memfd-seals": "memfd_seals.py",
    "no-new-privs": "no_new_privs.py",
    "oom-score": "oom_score_adj.py",
    "pdeath-signal": "pdeathsig.py",
    "pending-signals": "signals_pending.c",
    "pipe-bytes": "pipe_full.py",
    "pipe-data": "pipe_full.py",
    "pipe-size": "pipe_full.py",
    "plugin-state": "external_plugin.py",
    "posix-timers": "posix_timers.c",
    "private-page": "memory_dense.py",
    "rlimits": "rlimits.py",
    "sched": "busy_loop.c",
    "seccomp": "seccomp_filters.c",
    "shared-page": "shmem_fork.py",
    "sigactions": "sigactions.c",
    "sigmask": "thread_masks.c",
    "signalfd-mask": "signalfd.py",
    "socket-backlog": "unix_listener.py",
    "socket-options": "unix_options.py",
    "socket-queue": "unix_queues.py",
    "socket-shutdown": "unix_shutdown.py",
    "thread-sigmask": "thread_masks.c",
    "thread-signals": "signals_pending.c",
    "timerfd": "timerfd.c",
    "tty-data": "pty_queues.py",
    "tty-modes": "pty_termios.py",
    "tty-size": "pty_settings.py",
    "umask": "fs_umask.py",
}


def test_kinds_are_complete() -> None:
    assert sorted(CAUGHT_BY) == sorted(KINDS)


@pytest.mark.parametrize(("kind", "program"), sorted(CAUGHT_BY.items()))
def test_turns_red(tmp_path: Path, kind: str, program: str) -> None:
    """Not because the engine takes the images for damaged: it must be a judge who sees it."""
    words = [f"zdtm/static/{program}::h-cli", "--sabotage", kind, "--artifacts", str(tmp_path)]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert "1 failed" in done.stdout, done.stdout[-3000:] + done.stderr
    assert re.search(r"^(oracle|program): ", done.stdout, re.MULTILINE), done.stdout[-3000:]
