"""The trees of the hostile tests: one that has a bit of everything an image can hold, one that is plain."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from operator import ge
from typing import TYPE_CHECKING

from tests.harm.subject import look
from tests.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PLAIN = r"""
import mmap, os, shutil, signal, socket, sys, threading, time
for name in ("kept", "changed", "opened", "replaced"):
    with open(name, "w") as file: file.write("x" * 9000)
shutil.copy("/proc/self/exe", "program")
kept, opened, replaced, program = (os.open(name, os.O_RDWR) for name in ("kept", "opened", "replaced", "program"))
with open("changed", "r+b") as file: changed = mmap.mmap(file.fileno(), 8192)
deleted = os.open("deleted", os.O_RDWR | os.O_CREAT); os.unlink("deleted")
os.mkdir("directory")
bound = socket.socket(socket.AF_UNIX); bound.bind("directory/bound")
shared = mmap.mmap(-1, 8192); shared[0] = 1
pipe = os.pipe()
if os.fork() == 0:
    while True: time.sleep(60)
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
os.mkdir("ready")
while True: time.sleep(60)
"""

RICH = r"""
import array, ctypes, fcntl, mmap, os, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def checked(result):
    assert result >= 0, os.strerror(ctypes.get_errno())
    return result

# Files: plain, mapped both ways, deleted, deleted with another name left, a fifo, locks, a namespace.
with open("plain", "w") as file: file.write("x" * 9000)
plain = os.open("plain", os.O_RDWR)
mapped = mmap.mmap(plain, 8192)
private = mmap.mmap(plain, 8192, mmap.MAP_PRIVATE); private[0] = 1
small = os.open("small", os.O_RDWR | os.O_CREAT); os.write(small, b"small ghost"); os.unlink("small")
large = os.open("large", os.O_RDWR | os.O_CREAT)
os.pwrite(large, b"large ghost", 0); os.pwrite(large, b"its end", 1 << 16); os.unlink("large")
linked = os.open("linked", os.O_RDWR | os.O_CREAT); os.link("linked", "other"); os.unlink("linked")
os.mkfifo("fifo")
fifo = os.open("fifo", os.O_RDWR); os.write(fifo, b"in the fifo")
fcntl.flock(plain, fcntl.LOCK_SH)
namespace = os.open("/proc/self/ns/uts", os.O_RDONLY)

# Memory: shared, a memfd, locked, advised.
shared = mmap.mmap(-1, 16384); shared[5000] = 7
memory = os.memfd_create("memory", os.MFD_ALLOW_SEALING)
os.write(memory, b"m" * 5000); fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
of_memory = mmap.mmap(memory, 4096)
advised = mmap.mmap(-1, 1 << 16, mmap.MAP_PRIVATE); advised.madvise(mmap.MADV_DONTDUMP); advised[0] = 1

# Pipes and sockets with something in them.
pipe = os.pipe(); os.write(pipe[1], b"in the pipe")
packets = os.pipe2(os.O_DIRECT); os.write(packets[1], b"one"); os.write(packets[1], b"two")
left, right = socket.socketpair()
socket.send_fds(left, [b"with a descriptor"], [small]); left.send(b"more")
data, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM); data.send(b"datagram")
listener = socket.socket(socket.AF_UNIX); listener.bind("listener"); listener.listen(3)
client = socket.socket(socket.AF_UNIX); client.connect("listener")
bound = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); bound.bind("bound")

# What counts, signals and polls.
counter = libc.eventfd(5, 0)
inner = select.epoll(); inner.register(counter, select.EPOLLIN)
outer = select.epoll(); outer.register(inner.fileno(), select.EPOLLIN); outer.register(pipe[0], select.EPOLLIN)
mask = ctypes.c_uint64(1 << signal.SIGUSR1 - 1)
watched = checked(libc.signalfd(-1, ctypes.byref(mask), 0))
timer = checked(libc.timerfd_create(1, 0))
checked(libc.timerfd_settime(timer, 0, struct.pack("4q", 5000, 0, 5000, 0), 0))
event, timer_id = struct.pack("Qii48x", 0, signal.SIGUSR2, 0), ctypes.c_void_p()
checked(libc.timer_create(1, event, ctypes.byref(timer_id)))
checked(libc.timer_settime(timer_id, 0, struct.pack("4q", 5000, 0, 5000, 0), 0))
signal.setitimer(signal.ITIMER_REAL, 5000, 5000)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
os.kill(os.getpid(), signal.SIGUSR2)
fcntl.fcntl(right, fcntl.F_SETOWN, os.getpid())

# A child in a group of its own, a dead one, and pidfds of both; a dead one that has been reaped.
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    private[4096] = 3
    while True: time.sleep(60)
zombie = os.fork()
if zombie == 0: os._exit(3)
os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
reaped = os.fork()
if reaped == 0: os._exit(0)
pidfds = [os.pidfd_open(pid) for pid in (child, zombie, reaped)]
os.waitpid(reaped, 0)

# A second thread, then two seccomp filters that allow everything, for the first one.
threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
allow = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0x7fff0000), 8)
for _ in range(2):
    checked(libc.prctl(22, 2, struct.pack("H6xQ", 1, ctypes.addressof(allow)), 0, 0))
os.mkdir("ready")
while True: time.sleep(60)
"""


class Subject:
    """A running tree whose current directory is `place`, which must be empty.

    program      makes the directory `ready` when it is. Its tasks all sleep for short times
    arguments    of the program
    own_session  whether it leads a session
    keep         the only descriptors that it inherits; None: all that are inheritable
    """

    def __init__(
        self, place: Path, program: str = RICH, *arguments: str, own_session: bool = True,
        keep: tuple[int, ...] | None = None,
    ) -> None:  # fmt: skip
        self.place = place
        with open(place / "output", "w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", program, *arguments],
                cwd=place, start_new_session=own_session, close_fds=keep is not None, pass_fds=keep or (),
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        wait_until(lambda: (place / "ready").exists() or self.process.poll() is not None, "the subject is ready")
        assert self.process.poll() is None, (place / "output").read_text()
        self.pid = self.process.pid
        with open(f"/proc/{self.pid}/task/{self.pid}/children") as children:
            self.pids = [self.pid, *map(int, children.read().split())]

    def remember(self) -> None:
        """Let every thread come to where it sleeps and wakes, and note what the tasks have then."""
        self._wait_for_wakes(3)
        self.before = look(self.pids)

    def check_unharmed(self) -> None:
        """Every thread goes on sleeping and waking, and has what it had."""
        self._wait_for_wakes(1)
        wait_until(lambda: look(self.pids) == self.before, "the tasks are as before", self._difference)

    def _wait_for_wakes(self, count: int) -> None:
        wanted = [then + count for then in self._wakes()]
        wait_until(lambda: all(map(ge, self._wakes(), wanted)), "all threads go on")

    def _difference(self) -> str:
        return f"before: {self.before}\nnow: {look(self.pids)}"

    def _wakes(self) -> list[int]:
        """How often each thread has gone to sleep of its own accord."""
        counts = []
        for pid in self.pids:
            for tid in sorted(os.listdir(f"/proc/{pid}/task"), key=int):
                with open(f"/proc/{pid}/task/{tid}/status") as status:
                    counts += [int(line.split()[1]) for line in status if line.startswith("voluntary")]
        return counts

    def end(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
