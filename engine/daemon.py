"""What all daemons have in common: background, pid file, the names of their sockets, signals that end them, and telling
whoever waits for it that they are ready."""

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
from typing import TYPE_CHECKING

from engine import log
from engine.action_scripts import ActionScripts, announce_ready
from engine.errors import CrError
from engine.kernel.title import set_title

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from engine.options import Options

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BACKLOG = 16


def run(opts: Options, name: str, start: Callable[[], Callable[[], int]]) -> int:
    """Be a daemon until a signal ends it, or it ends by itself. Returns the exit status; raises CrError.

    name   what it is called in the log and by ps(1)
    start  is called in the process that is going to be the daemon and returns the function that serves, which is called
           when whoever waits for the daemon has been told that it is ready, and returns the exit status
    """
    scripts = ActionScripts(opts)
    ready = _go_to_background() if opts.restore_detached else -1
    pidfile = None
    try:
        set_title(name)
        pidfile = _write_pidfile(opts)
        serve = start()
        for number in STOP_SIGNALS:
            signal.signal(number, _stop)
        announce_ready(opts, scripts)
        if ready >= 0:
            os.write(ready, b"\0")
            os.close(ready)
        log.info(f"The {name} is ready")
        return serve()
    except _Stop:
        log.info(f"The {name} ends")
        return 0
    finally:
        if pidfile:
            os.unlink(pidfile)


def listen(sock: socket.socket, name: str, mode: int) -> None:
    """Listen at a path. A name that a dead daemon has left behind is taken over. Raises OSError.

    mode: who may connect
    """
    try:
        sock.bind(name)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or _is_alive(name, sock.type):
            raise
        os.unlink(name)
        sock.bind(name)
    os.chmod(name, mode)
    sock.listen(_BACKLOG)


def raise_descriptor_limit() -> None:
    """As far as it goes, for those whose clients make them hold descriptors: images, userfaultfds."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Stop(BaseException):
    """A signal asks the daemon to end."""


def _stop(*_: object) -> NoReturn:
    raise _Stop


def _is_alive(name: str, kind: int) -> bool:
    """Whether anybody listens there, or what has the name is no socket."""
    with socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(name)
        except ConnectionRefusedError:
            return not os.path.exists(name) or not stat.S_ISSOCK(os.lstat(name).st_mode)
        except OSError:
            pass  # a full backlog, or a socket of another type
        return True


def _go_to_background() -> int:
    """daemon(3), but the parent waits until the daemon is ready. Returns the descriptor to say so at."""
    read_end, write_end = os.pipe()
    if os.fork():
        os.close(write_end)
        os._exit(0 if os.read(read_end, 1) else 1)
    os.close(read_end)
    os.setsid()
    leave_terminal()
    return write_end


def leave_terminal() -> None:
    """Have standard input, output and error lead nowhere."""
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for number in range(3):
        os.dup2(null, number)
    os.close(null)


def _write_pidfile(opts: Options) -> str | None:
    """--pidfile: must not exist yet. Returns its absolute path."""
    if not opts.pidfile:
        return None
    try:
        fd = os.open(opts.pidfile, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CrError(f"pid file {opts.pidfile}: {error.strerror}") from error
    try:
        os.write(fd, str(os.getpid()).encode())
    except OSError as error:
        os.unlink(opts.pidfile)
        raise CrError(f"pid file {opts.pidfile}: {error.strerror}") from error
    finally:
        os.close(fd)
    return os.path.abspath(opts.pidfile)
