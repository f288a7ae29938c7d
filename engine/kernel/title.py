"""The title of this process: what ps(1) shows of it.

/proc/PID/cmdline is the memory between arg_start and arg_end (proc_pid_cmdline(5)), which a process may write to. The
environment comes right after it; it stays as it is, so a title has as much room as the command line had. The name that
`ps -e` shows is set by PR_SET_NAME.
"""

from __future__ import annotations

import os

from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_SET_NAME
from engine.kernel.proc_stat import read_stat


def set_title(title: str, program: str = "criu") -> None:
    """Say what this process is doing. Where /proc can't be written to, it doesn't."""
    text = f"{program}: {title}".encode(errors="backslashreplace")
    syscall(NR["prctl"], PR_SET_NAME, program.encode()[:15] + b"\0")
    try:
        stat = read_stat(os.getpid())
        room = stat.arg_end - stat.arg_start
        fd = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if room > 0:
            os.pwrite(fd, text[: room - 1].ljust(room, b"\0"), stat.arg_start)
    except OSError:
        pass  # a kernel that forbids it (proc_mem.restrict_write)
    finally:
        os.close(fd)
