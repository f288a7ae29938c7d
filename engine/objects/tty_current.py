"""/dev/tty: a description of the controlling terminal of whoever opened it, with a name and a number of its own.

Only a task that is controlled can open it. So a process of its own becomes the leader of a session, takes the terminal,
opens /dev/tty and gives the terminal up again, before the session that it belongs to is born. Giving up comes by
TIOCNOTTY: if a leader exits in possession of a terminal that is not a pseudo one, the kernel hangs that up
(drivers/tty/tty_jobctrl.c, disassociate_ctty).
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket

from engine.errors import CrError
from engine.kernel import terminal
from engine.objects.paths import open_name

_PTMX = "/dev/ptmx"


def open_current(slave: int, name: str, flags: int) -> int:
    """A description of /dev/tty for a terminal that controls no session.

    slave  a descriptor of ours of it
    name   where /dev/tty is
    Raises CrError when the terminal controls somebody else, or there is no /dev/tty.
    """
    ours, theirs = socket.socketpair()
    child = os.fork()
    if not child:
        try:
            _be_leader(slave, name, flags, theirs)
        finally:
            os._exit(1)
    theirs.close()
    with ours:
        fds = socket.recv_fds(ours, 1, 1, socket.MSG_CMSG_CLOEXEC)[1]
    os.waitpid(child, 0)
    if not fds:
        raise CrError(f"{name} can't be opened for {os.readlink(f'/proc/self/fd/{slave}')} (does it control others?)")
    return fds[0]


def open_hung_up(name: str, flags: int) -> int:
    """/dev/tty for a terminal whose master is closed: whichever that was, it will never say anything again."""
    master = os.open(_PTMX, os.O_RDWR | os.O_NOCTTY)
    slave = -1
    try:
        terminal.set_locked(master, False)
        slave = terminal.open_peer(master, os.O_RDWR)
        return open_current(slave, name, flags)
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


def _be_leader(slave: int, name: str, flags: int, channel: socket.socket) -> None:
    """The other process. The signals that come with giving up a terminal go to its group, which it is alone in."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    os.setsid()
    fcntl.ioctl(slave, terminal.TIOCSCTTY, 0)
    try:
        fd = open_name(name, flags | os.O_NOCTTY | os.O_NONBLOCK)
        fcntl.fcntl(fd, fcntl.F_SETFL, flags)
        socket.send_fds(channel, [b"!"], [fd])
    finally:
        fcntl.ioctl(slave, terminal.TIOCNOTTY, 0)
