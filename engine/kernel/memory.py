"""Another task's memory through /proc/PID/mem, which ignores page protections as ptrace's POKE does.

/proc/PID/mem is bound to the address space at open time: after an exec it must be opened again.
"""

from __future__ import annotations

import os


class Memory:
    """The address space of a task. A vanished task gives ProcessLookupError or short reads, which raise OSError.

    tid: a thread of it that lives, where the leader does not.
    """

    def __init__(self, pid: int, tid: int | None = None) -> None:
        self.pid = pid
        self.tid = tid or pid
        self._fd = os.open(f"/proc/{self.tid}/mem", os.O_RDWR | os.O_CLOEXEC)

    @property
    def fd(self) -> int:
        """The descriptor of /proc/PID/mem."""
        return self._fd

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read(self, address: int, size: int) -> bytes:
        """Exactly `size` bytes."""
        content = os.pread(self._fd, size, address)
        while len(content) < size:
            more = os.pread(self._fd, size - len(content), address + len(content))
            if not more:
                raise ProcessLookupError(f"memory of task {self.pid} ended at {address + len(content):#x}")
            content += more
        return content

    def write(self, address: int, content: bytes) -> None:
        view = memoryview(content)
        while view:
            done = os.pwrite(self._fd, view, address)
            if not done:
                raise ProcessLookupError(f"memory of task {self.pid} ended at {address:#x}")
            address += done
            view = view[done:]
