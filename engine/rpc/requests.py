"""What each request does: one table. A request that does what a command does runs that command's verb.

A verb's `run` takes Options and returns an exit status or raises; Call makes the answer of either.
"""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from engine import CRIU_VERSION, __version__, log, places
from engine.errors import CrError, Problems
from engine.images.schema import enum, message
from engine.kernel.title import set_title
from engine.option import EBADRQC
from engine.report import report
from engine.rpc.client import Client
from engine.rpc.fields import options_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.options import Options
    from engine.rpc.session import Session
    from engine.worker import Runner, Work

Message = Any

LONGEST_TEXT = 700
"""Bytes of a cr_errmsg: clients exist that read into 1024."""


class Request(NamedTuple):
    """One type of request.

    work       does it; returns an exit status or raises
    answer     type of the answer
    keep_open  whether the client may say more afterwards
    then       requests of which the client must say one next, on the same connection
    anybody    whether clients without privileges may ask
    """

    work: Callable[[Call], int]
    answer: str
    keep_open: bool = False
    anybody: bool = False
    then: tuple[str, ...] = ()


class Call:
    """One request being served. Who does the work answers, which may be a process of its own (engine/worker.py)."""

    def __init__(self, session: Session, said: Message, kind: str) -> None:
        self.session = session
        self.said = said
        self.answer = message("criu_resp")(type=enum("criu_req_type")[kind], success=False)
        self.answered = False

    def attempt(self, work: Callable[[], int]) -> int:
        """Do it and answer. Returns an exit status, whatever is raised."""
        try:
            status = work()
        except BaseException as error:
            before = log.first_error()
            status = report(error)
            self._explain(error, before)
        if not self.answered:
            self._reply(status)
        return status

    def through(self, runner: Runner) -> Runner:
        """A runner whose worker answers. A worker that was killed has not; that raises here, and is answered here."""

        def run(work: Work) -> int:
            status = runner(lambda commit: self.attempt(partial(work, commit)))
            self.answered = True
            return status

        return run

    def restored(self, pid: int) -> None:
        """The root runs. Answer now: what comes next may be a command that takes this process's place."""
        self.answer.restore.pid = pid
        self._reply(0)
        if self.said.opts.exec_cmd:
            self.session.link.close()
            log.become_output()

    def _reply(self, status: int) -> None:
        self.answered = True
        self.answer.success = status == 0
        if status:
            self.answer.cr_errno = self.answer.cr_errno or errno.EBADE
            said = self.answer.cr_errmsg or log.first_error() or "it failed, the log says why"
            self.answer.cr_errmsg = _cut(said)
        self.session.link.send(self.answer)

    def _explain(self, error: BaseException, before: str | None) -> None:
        """All the reasons in one text, and the number that says most. before: what had been logged as an error."""
        texts = [before or "", str(error) if isinstance(error, CrError) else log.first_error() or ""]
        self.answer.cr_errmsg = _cut("; ".join(filter(None, dict.fromkeys(texts))))
        cause: BaseException | None = error
        while cause and not self.answer.cr_errno:
            if isinstance(cause, CrError):
                self.answer.cr_errno = cause.cr_errno
            elif isinstance(cause, OSError):
                self.answer.cr_errno = cause.errno or 0
            cause = cause.__cause__

    def settle(self, command: str, *words: str) -> Options:
        """Options of a command, whose directories and log are open. The log is there before options are refused, since
        people look there. Raises CrError."""
        if not self.said.HasField("opts"):
            raise CrError("the request has no opts, which say what and where", EBADRQC)
        session, fields = self.session, self.said.opts
        client = Client(session.link, fields, self.restored)
        problems = Problems()
        opts = options_of(fields, session.base, client, problems, command, words, session.in_service)
        if "images_dir" in opts.given:
            with problems:
                places.settle(opts)
        problems.raise_if_any(command)
        return opts


def _cut(text: str) -> str:
    """As much as fits. What was a file name of any bytes is shown with escapes."""
    data = text.encode(errors="backslashreplace")
    if len(data) <= LONGEST_TEXT:
        return data.decode()
    more = " … (all of it is in the log)"
    return data[: LONGEST_TEXT - len(more.encode())].decode(errors="ignore") + more


def _dump(call: Call) -> int:
    from engine import dump

    call.answer.dump.restored = False
    opts = _settle_for_task(call, "dump")
    return dump.run(opts, call.through(call.session.runner(opts)))


def _pre_dump(call: Call) -> int:
    from engine import pre_dump

    opts = _settle_for_task(call, "pre-dump")
    return pre_dump.run(opts, call.through(call.session.runner(opts)))


def _settle_for_task(call: Call, command: str) -> Options:
    opts = call.settle(command)
    peer = call.session.link.peer
    if opts.tree == peer.pid and call.session.link.peer_has_died():
        raise CrError(f"task {peer.pid} asked to be dumped and has gone", errno.ESRCH)
    set_title(f"{command} --rpc -t {opts.tree} -D {opts.images_dir}")
    return opts


def _restore(call: Call) -> int:
    from engine import restore

    call.answer.restore.pid = -1
    opts = call.settle("restore")
    set_title(f"restore --rpc -D {opts.images_dir}")
    return restore.run(opts, call.through(call.session.runner(opts)))


def _check(call: Call) -> int:
    """Only a log needs a place; nothing else of opts means anything."""
    from engine import check
    from engine.options import Options

    set_title("check --rpc")
    fields = call.said.opts
    if fields.log_file and not fields.log_to_stderr:
        return check.run(call.settle("check"))
    return check.run(Options())


def _cpuinfo(word: str, call: Call) -> int:
    from engine import cpuinfo

    opts = call.settle("cpuinfo", word)
    set_title(f"cpuinfo {word} --rpc")
    return cpuinfo.run(opts)


def _feature_check(call: Call) -> int:
    """What is asked for and there: the kernel has it, and this engine makes use of it."""
    from engine.kernel.features import reason_against
    from engine.unserved import UNSERVED

    if not call.said.HasField("features"):
        raise CrError("the request has no features", EBADRQC)
    wanted, found = call.said.features, call.answer.features
    for name, feature, option in (
        ("mem_track", "mem_dirty_track", "track_mem"),
        ("lazy_pages", "uffd-noncoop", "lazy_pages"),
        ("pidfd_store", "pidfd_store", "track_mem"),
    ):
        there = getattr(wanted, name) and option not in UNSERVED and reason_against(feature) is None
        setattr(found, name, there)
    return 0


def _version(call: Call) -> int:
    version = call.answer.version
    version.major_number, version.minor_number = map(int, CRIU_VERSION.split("."))
    version.name = f"Crucible {__version__}"
    return 0


def _wait_pid(call: Call) -> int:
    """For what a request on this connection has left running."""
    try:
        call.answer.status = os.waitpid(call.said.pid, 0)[1]
    except (OSError, OverflowError):
        raise CrError(f"process {call.said.pid} is not a child of this worker", errno.ECHILD) from None
    return 0


def _page_server(as_child: bool, call: Call) -> int:
    from engine.rpc import page_server

    return page_server.start(call, as_child)


def _invalid(call: Call) -> int:
    raise CrError("this is not a request", EBADRQC)


REQUESTS = {
    "DUMP": Request(_dump, "DUMP"),
    "RESTORE": Request(_restore, "RESTORE"),
    "CHECK": Request(_check, "CHECK"),
    "PRE_DUMP": Request(_pre_dump, "PRE_DUMP", then=("PRE_DUMP", "DUMP")),
    "SINGLE_PRE_DUMP": Request(_pre_dump, "SINGLE_PRE_DUMP"),
    "PAGE_SERVER": Request(partial(_page_server, False), "PAGE_SERVER", keep_open=True),
    "PAGE_SERVER_CHLD": Request(partial(_page_server, True), "PAGE_SERVER", keep_open=True),
    "CPUINFO_DUMP": Request(partial(_cpuinfo, "dump"), "CPUINFO_DUMP", keep_open=True),
    "CPUINFO_CHECK": Request(partial(_cpuinfo, "check"), "CPUINFO_CHECK", keep_open=True),
    "FEATURE_CHECK": Request(_feature_check, "FEATURE_CHECK", keep_open=True, anybody=True),
    "VERSION": Request(_version, "VERSION", keep_open=True, anybody=True),
    "WAIT_PID": Request(_wait_pid, "WAIT_PID"),
}
INVALID = Request(_invalid, "EMPTY", anybody=True)
"""EMPTY, NOTIFY where nothing was asked, and types that we don't know."""
