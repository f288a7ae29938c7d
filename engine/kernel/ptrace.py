"""ptrace(2): one thread under our control. A wrapper a request, named after it, raising OSError.

The death of a tracee is an ordinary result: requests on one that was killed raise ProcessLookupError, and
Tracee.wait() returns a status for which Status.dead is true.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import time
from typing import NamedTuple

_libc = ctypes.CDLL(None, use_errno=True)
_ptrace = _libc.ptrace
_ptrace.restype = ctypes.c_long
_ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]

CONT, SYSCALL, DETACH = 7, 24, 17
SETOPTIONS, GETEVENTMSG, GETSIGINFO = 0x4200, 0x4201, 0x4202
GETREGSET, SETREGSET = 0x4204, 0x4205
SEIZE, INTERRUPT, LISTEN = 0x4206, 0x4207, 0x4208
PEEKSIGINFO, GETSIGMASK, SETSIGMASK = 0x4209, 0x420A, 0x420B
SECCOMP_GET_FILTER, SECCOMP_GET_METADATA, GET_RSEQ_CONFIGURATION = 0x420C, 0x420D, 0x420F

O_TRACESYSGOOD, O_TRACEFORK, O_TRACEVFORK, O_TRACECLONE, O_TRACEEXEC = 1, 2, 4, 8, 16
O_EXITKILL, O_SUSPEND_SECCOMP = 1 << 20, 1 << 21
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_STOP = 1, 2, 3, 4, 128
PEEKSIGINFO_SHARED = 1

NT_PRSTATUS, NT_PRFPREG, NT_X86_XSTATE, NT_ARM_TLS = 1, 2, 0x202, 0x401
SIGTRAP = 5
SIGINFO_SIZE = 128
ALL_SIGNALS = (1 << 64) - 1
WALL = 0x40000000
_SIGKILL = 9
_SHORTEST_PAUSE, _LONGEST_PAUSE = 2e-5, 1e-2
"""Between two looks at a leader, in seconds."""


class _Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]


def ptrace(request: int, tid: int, addr: int = 0, data: int = 0) -> int:
    """One ptrace request. Raises OSError, ProcessLookupError where the tracee is gone or not stopped."""
    ctypes.set_errno(0)
    result: int = _ptrace(request, tid, addr, data)
    if result == -1 and (code := ctypes.get_errno()):
        raise OSError(code, f"ptrace request {request:#x} on {tid}: {os.strerror(code)}")
    return result


class Status(NamedTuple):
    """A wait status of a tracee."""

    raw: int

    @property
    def dead(self) -> bool:
        return not os.WIFSTOPPED(self.raw)

    @property
    def signal(self) -> int:
        """The signal of the stop; SIGTRAP | 0x80 for a system-call stop."""
        return self.raw >> 8 & 0xFF

    @property
    def event(self) -> int:
        return self.raw >> 16

    @property
    def is_syscall(self) -> bool:
        return not self.dead and self.signal == SIGTRAP | 0x80

    @property
    def is_group_stop(self) -> bool:
        """A group-stop: EVENT_STOP with a stopping signal rather than SIGTRAP (ptrace(2), "Group-stop")."""
        return not self.dead and self.event == EVENT_STOP and self.signal != SIGTRAP

    @property
    def is_signal(self) -> bool:
        """A signal-delivery-stop: the signal is lost unless it is given back on resume."""
        return not self.dead and self.event == 0 and not self.is_syscall


class Tracee:
    """A traced thread. Requests need it stopped, except interrupt().

    options  those it is traced with
    leads    to be set when it is the leader of a process of which other threads are traced, too. When somebody kills
             that, the kernel does not tell of the leader's death before theirs have been waited for (kernel/exit.c,
             delay_group_leader), and wait() has to look for it.
    """

    __slots__ = ("leads", "options", "tid")

    def __init__(self, tid: int, options: int = 0) -> None:
        self.tid = tid
        self.options = options
        self.leads = False

    @classmethod
    def seize(cls, tid: int, options: int = O_TRACESYSGOOD) -> Tracee:
        ptrace(SEIZE, tid, 0, options)
        return cls(tid, options)

    def interrupt(self) -> None:
        ptrace(INTERRUPT, self.tid)

    def set_options(self, options: int) -> None:
        ptrace(SETOPTIONS, self.tid, 0, options)
        self.options = options

    def wait(self) -> Status:
        """Block until the thread stops or dies."""
        if self.leads:
            return self._wait_as_leader()
        while True:
            try:
                return Status(os.waitpid(self.tid, WALL)[1])
            except InterruptedError:
                continue

    def _wait_as_leader(self) -> Status:
        """Wait until anything happens to any tracee, most often to this one, and else look at it now and then."""
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WSTOPPED | os.WNOWAIT | WALL)
        pause = _SHORTEST_PAUSE
        while (status := self.poll()) is None and not (pause == _LONGEST_PAUSE and self._is_zombie()):
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return status or self.poll() or Status(_SIGKILL)

    def _is_zombie(self) -> bool:
        """False, too, when that can't be found out now (no free descriptor): a wait that fails leaves a thread standing
        of which nobody knows."""
        from engine.kernel.proc_stat import read_stat

        try:
            return read_stat(self.tid, self.tid).state == "Z"
        except OSError:
            return False

    def wait_for_stop(self) -> Status:
        """Wait for the stop that interrupt() asked for, or for the thread's death. A signal that comes first is
        delivered as without us."""
        while not (status := self.wait()).dead and status.event != EVENT_STOP:
            self.cont(status.signal if status.is_signal else 0)
        return status

    def poll(self) -> Status | None:
        """The next status, or None when nothing happened."""
        pid, status = os.waitpid(self.tid, WALL | os.WNOHANG)
        return Status(status) if pid else None

    def cont(self, signal: int = 0) -> None:
        ptrace(CONT, self.tid, 0, signal)

    def cont_to_syscall(self) -> None:
        ptrace(SYSCALL, self.tid)

    def listen(self) -> None:
        """Leave a group-stopped thread stopped, without running it."""
        ptrace(LISTEN, self.tid)

    def detach(self, signal: int = 0) -> None:
        ptrace(DETACH, self.tid, 0, signal)

    def event_message(self) -> int:
        """What goes with an event: the tid of the new thread for EVENT_CLONE."""
        message = ctypes.c_ulong()
        ptrace(GETEVENTMSG, self.tid, 0, ctypes.addressof(message))
        return message.value

    def siginfo(self) -> bytes:
        """siginfo_t of a signal-delivery-stop, 128 bytes."""
        buffer = ctypes.create_string_buffer(SIGINFO_SIZE)
        ptrace(GETSIGINFO, self.tid, 0, ctypes.addressof(buffer))
        return buffer.raw

    def regset(self, note: int, size: int = 16384) -> bytes:
        """A register set, as long as the kernel has it (at most `size` bytes)."""
        buffer = ctypes.create_string_buffer(size)
        iov = _Iovec(ctypes.addressof(buffer), size)
        ptrace(GETREGSET, self.tid, note, ctypes.addressof(iov))
        return ctypes.string_at(buffer, iov.length)

    def set_regset(self, note: int, content: bytes) -> None:
        buffer = ctypes.create_string_buffer(content, len(content))
        iov = _Iovec(ctypes.addressof(buffer), len(content))
        ptrace(SETREGSET, self.tid, note, ctypes.addressof(iov))

    def sigmask(self) -> int:
        mask = ctypes.c_uint64()
        ptrace(GETSIGMASK, self.tid, 8, ctypes.addressof(mask))
        return mask.value

    def set_sigmask(self, mask: int) -> None:
        value = ctypes.c_uint64(mask)
        ptrace(SETSIGMASK, self.tid, 8, ctypes.addressof(value))

    def pending_signals(self, shared: bool) -> list[bytes]:
        """The queued siginfo_t, oldest first: of the process (shared) or of this thread. Nothing is dequeued."""
        batch = 32
        buffer = ctypes.create_string_buffer(batch * SIGINFO_SIZE)
        found: list[bytes] = []
        while True:
            args = ctypes.create_string_buffer(
                struct.pack("QIi", len(found), PEEKSIGINFO_SHARED if shared else 0, batch), 16
            )
            count = ptrace(PEEKSIGINFO, self.tid, ctypes.addressof(args), ctypes.addressof(buffer))
            found += [buffer.raw[i * SIGINFO_SIZE : (i + 1) * SIGINFO_SIZE] for i in range(count)]
            if count < batch:
                return found

    def rseq(self) -> tuple[int, int, int]:
        """(address, size, signature) of the registered rseq area, address 0 for none."""
        config = ctypes.create_string_buffer(24)
        ptrace(GET_RSEQ_CONFIGURATION, self.tid, 24, ctypes.addressof(config))
        address, size, signature = struct.unpack_from("QII", config.raw)
        return address, size, signature

    def seccomp_filter(self, index: int) -> bytes | None:
        """The index-th seccomp filter, as an array of struct sock_filter; None past the end.

        Index 0 is the oldest (kernel/seccomp.c, get_nth_filter), whatever ptrace(2) says.
        """
        try:
            count = ptrace(SECCOMP_GET_FILTER, self.tid, index)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise
        buffer = ctypes.create_string_buffer(count * 8)
        ptrace(SECCOMP_GET_FILTER, self.tid, index, ctypes.addressof(buffer))
        return buffer.raw

    def seccomp_flags(self, index: int) -> int:
        """SECCOMP_FILTER_FLAG_LOG if the index-th filter has it."""
        metadata = ctypes.create_string_buffer(struct.pack("QQ", index, 0), 16)
        ptrace(SECCOMP_GET_METADATA, self.tid, 16, ctypes.addressof(metadata))
        return int(struct.unpack_from("Q", metadata.raw, 8)[0])
