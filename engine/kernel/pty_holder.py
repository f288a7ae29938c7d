"""Who has the master of a pseudo terminal open."""

from __future__ import annotations

import os

from engine.kernel.proc_fdinfo import fdinfo_fields, read_fdinfo
from engine.kernel.procfs import list_fds


def holder_of_master(index: int) -> str:
    """"process 123 (sshd)" for the terminal /dev/pts/INDEX; "another process" when none can be seen that has it."""
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        try:
            if _has_master(int(name), index):
                with open(f"/proc/{name}/comm", errors="replace") as comm:
                    return f"process {name} ({comm.read().strip()})"
        except OSError:
            continue
    return "another process"


def _has_master(pid: int, index: int) -> bool:
    for fd in list_fds(pid):
        is_master = os.readlink(f"/proc/{pid}/fd/{fd}").endswith("ptmx")
        if is_master and fdinfo_fields(read_fdinfo(pid, fd)).get("tty-index") == str(index):
            return True
    return False
