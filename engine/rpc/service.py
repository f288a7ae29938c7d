"""crucible service: a daemon that dumps and restores for whoever may ask.

The daemon itself only accepts connections. Each is served by a worker of its own, a fork of it, so that everything is
loaded already. One worker always stands by, with copies of its memory's pages made, so that nobody waits for the fork.

A worker dies with the daemon until it commits (engine/worker.py): then either nothing has happened, or the work is
completed. The daemon keeps a copy of each connection, to say so when somebody kills a worker.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
from typing import TYPE_CHECKING, NamedTuple

from engine import daemon, log, worker
from engine.images.schema import enum, message
from engine.kernel.own_memory import copy_pages
from engine.kernel.peer import Peer
from engine.kernel.title import set_title
from engine.report import report
from engine.rpc.link import Link
from engine.rpc.listener import open_listener
from engine.rpc.session import Session, base_options, is_privileged
from engine.rpc.warm import load_everything

if TYPE_CHECKING:
    from typing import NoReturn

    from engine.options import Options
    from engine.rpc.listener import Listener

PATIENCE_SECONDS = 60
"""How long a client may take to say what it wants."""
_MOST_WORKERS = 64
_MOST_STRANGERS = 8
_FULL_SECONDS = 1


def run(opts: Options) -> int:
    """The verb. Returns when a signal has ended it; raises CrError."""
    listener = open_listener(opts)
    try:
        load_everything()
        return daemon.run(opts, "service", lambda: Service(listener, base_options(opts)).serve)
    finally:
        listener.remove_name()


class _Connection(NamedTuple):
    """Our copy of a client's connection.

    handed_on  whether a worker has died before it could begin
    """

    sock: socket.socket
    is_strangers: bool
    handed_on: bool = False

    def fail(self, text: str) -> None:
        """Answer in the place of a worker, and end. What was asked for is not known here."""
        answer = message("criu_resp")(type=enum("criu_req_type")["EMPTY"], success=False)
        answer.cr_errno, answer.cr_errmsg = errno.EBADE, text
        with self.sock:
            try:
                self.sock.send(answer.SerializeToString(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                with contextlib.suppress(BlockingIOError):  # the client would see a reset before the answer
                    self.sock.recv(1, socket.MSG_DONTWAIT)
                self.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the client has gone


class _Worker:
    """A process that serves a connection, or waits for one.

    connection  None for one that waits
    """

    def __init__(self, pid: int, channel: socket.socket) -> None:
        self.pid = pid
        self.channel = channel
        self.pidfd = os.pidfd_open(pid)
        self.connection: _Connection | None = None

    def hand(self, connection: _Connection) -> None:
        """Give it its connection."""
        self.connection = connection
        try:
            socket.send_fds(self.channel, [b"!"], [connection.sock.fileno()], socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has just died, and will be found not to have begun

    def has_begun(self) -> bool:
        """Whether it got its connection before it died."""
        try:
            return bool(self.channel.recv(1, socket.MSG_DONTWAIT))
        except OSError:
            return False

    def close(self) -> None:
        """Our descriptors of it; the connection goes on."""
        os.close(self.pidfd)
        self.channel.close()
        if self.connection:
            self.connection.sock.close()


class Service:
    """The daemon."""

    def __init__(self, listener: Listener, base: Options) -> None:
        self._listener = listener.sock
        self._base = base
        self._workers: dict[int, _Worker] = {}
        self._spare: _Worker | None = self._start_worker()
        self._is_full = False

    def serve(self) -> NoReturn:
        """Accept connections for ever. Beyond so many, they wait until a worker has ended; where there is no descriptor
        or memory for one, that or a second."""
        while True:
            poll = select.poll()
            if len(self._workers) <= _MOST_WORKERS and not self._is_full:
                poll.register(self._listener, select.POLLIN)
            for pidfd in self._workers:
                poll.register(pidfd, select.POLLIN)
            found = poll.poll(_FULL_SECONDS * 1000 if self._is_full else None)
            self._is_full = False
            for fd, _ in found:
                if fd == self._listener.fileno():
                    self._accept()
                else:
                    self._bury(self._workers.pop(fd))

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                self._is_full = True
                log.error(f"a connection can't be accepted: {error.strerror}")
            return
        connection = _Connection(sock, is_strangers=not is_privileged(Peer.of(sock).uid))
        strangers = [each for each in self._workers.values() if each.connection and each.connection.is_strangers]
        if connection.is_strangers and len(strangers) >= _MOST_STRANGERS:
            connection.fail("too many others without privileges are being served")
        else:
            self._hand(connection)

    def _hand(self, connection: _Connection) -> None:
        """Give a connection to the worker that stands by, or to a new one, and have another one stand by."""
        try:
            taken, self._spare = self._spare or self._start_worker(), None
        except OSError as error:
            log.error(f"no worker can be started: {error.strerror}")
            connection.fail(f"the service can't start a worker: {error.strerror}")
            return
        taken.hand(connection)
        try:
            self._spare = self._start_worker()
        except OSError as error:
            log.warn(f"no worker can stand by: {error.strerror}")

    def _bury(self, dead: _Worker) -> None:
        """Somebody may have killed it. A connection that it never got goes to another one, once."""
        status = os.waitpid(dead.pid, 0)[1]
        if dead is self._spare:
            self._spare = None  # the next connection brings a new one
        how = worker.killed(dead.pid, os.WTERMSIG(status)) if os.WIFSIGNALED(status) else ""
        if how:
            log.error(how)
        connection = dead.connection
        if connection and not connection.handed_on and not dead.has_begun():
            dead.connection = None
            self._hand(connection._replace(handed_on=True))
        elif connection and how:
            connection.fail(how)
        dead.close()

    def _start_worker(self) -> _Worker:
        """Fork. Raises OSError."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            ours.close()
            self._be_worker(parent, its)
        its.close()
        try:
            started = _Worker(pid, ours)
        except OSError:
            ours.close()
            os.waitpid(pid, 0)
            raise
        self._workers[started.pidfd] = started
        return started

    def _be_worker(self, parent: int, channel: socket.socket) -> NoReturn:
        status = 1
        try:
            if worker.bind(parent):
                status = self._wait_and_serve(channel)
        except BaseException as error:
            report(error)
        finally:
            os._exit(status)

    def _wait_and_serve(self, channel: socket.socket) -> int:
        for number in daemon.STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._listener.close()
        for other in self._workers.values():
            other.close()
        set_title("service: stands by")
        copy_pages()
        _, fds, _, _ = socket.recv_fds(channel, 1, 1)
        if not fds:
            return 0
        channel.send(b".", socket.MSG_NOSIGNAL)
        channel.close()
        set_title("service: worker")
        link = Link(socket.socket(fileno=fds[0]))
        return Session(link, self._base, lambda _: worker.run_bound, in_service=True, patience=PATIENCE_SECONDS).serve()
