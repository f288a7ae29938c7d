"""A connection, from its first request to its end."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.images.schema import enum
from engine.options import Options
from engine.rpc.link import TooLarge
from engine.rpc.requests import INVALID, REQUESTS, Call

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.rpc.link import Link
    from engine.rpc.requests import Request
    from engine.worker import Runner

Message = Any

_PROTOCOL_ERROR = 255
# Options of the server itself, which are not those of the requests it gets.
_ITS_OWN = (
    "address close config daemon images_dir no_default_config pidfile port restore_detached status_fd verbosity"
).split()
_WHERE = ("work_dir", "log_file")


class Session:
    """One connection.

    base        options that requests start from
    runner      who does the work of a dump or restore with these options (engine/worker.py)
    in_service  the client didn't start us
    patience    seconds to wait for a request, 0: for ever
    """

    def __init__(
        self, link: Link, base: Options, runner: Callable[[Options], Runner], in_service: bool, patience: int = 0
    ) -> None:
        self.link = link
        self.base = base
        self.runner = runner
        self.in_service = in_service
        self.patience = patience

    def serve(self) -> int:
        """Do what the client says until it has said the last. Returns the exit status of the process."""
        allowed: tuple[str, ...] = ()
        try:
            while True:
                log.forget_first_error()
                try:
                    said = self.link.receive(self.patience)
                except (TooLarge, TimeoutError) as error:
                    return self._refuse(error)
                if said is None:
                    return _PROTOCOL_ERROR
                request = self._find(said, allowed)
                if said.keep_open and not request.keep_open:
                    raise CrError("keep_open goes with requests only that leave a process able to do more")
                status, allowed = self._do(request, said), request.then
                if status or not (said.keep_open or allowed):
                    return status
        finally:
            self.link.close()

    @staticmethod
    def _find(said: Message, allowed: tuple[str, ...]) -> Request:
        """allowed: what the request before this one may be followed by, empty for anything."""
        name = next(name for name, number in enum("criu_req_type").items() if number == said.type)
        return INVALID if allowed and name not in allowed else REQUESTS.get(name, INVALID)

    def _refuse(self, error: Exception) -> int:
        """There is nothing to be done, but the client is to know why."""
        from engine.images.schema import message

        def fail() -> int:
            raise error

        return Call(self, message("criu_req")(), INVALID.answer).attempt(fail)

    def _do(self, request: Request, said: Message) -> int:
        """One request. Directory and log are afterwards what they were, for the next one."""
        call = Call(self, said, request.answer)
        here = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return call.attempt(lambda: self._allowed(request, call))
        finally:
            os.fchdir(here)
            os.close(here)
            log.close()

    def _allowed(self, request: Request, call: Call) -> int:
        """Who may have any task dumped, or made, can do anything. So that is for those who can do so anyway."""
        peer = self.link.peer
        if self.in_service and not request.anybody and not is_privileged(peer.uid):
            what = f"user {peer.uid} (pid {peer.pid}) may not ask for this: it takes the privileges of the service"
            raise CrError(what, errno.EPERM)
        return request.work(call)


def is_privileged(uid: int) -> bool:
    """Whether a client of a service could do itself what it asks for."""
    return uid in (0, os.geteuid())


def base_options(server: Options) -> Options:
    """What requests to a server start from: its options, but not those about itself. Where it was told on its command
    line to work and to log is about itself, what a configuration file says about that is not."""
    from engine import argv, config

    configured, base = Options(), Options()
    argv.apply_all(configured, config.read_files(server.config, server.no_default_config))
    for name in server.given.difference(_ITS_OWN):
        source = configured if name in _WHERE else server
        if name in source.given:
            setattr(base, name, getattr(source, name))
            base.given.add(name)
    return base
