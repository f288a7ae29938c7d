"""The client as a verb sees it, which does not know by what way it has been asked (Options.client)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine import log
from engine.errors import CrError
from engine.images.schema import enum, message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from engine.options import Options
    from engine.rpc.link import Link

Message = Any

ANSWER_SECONDS = 600
"""How long a client may take over one step. Those of a dump are waited for by a tree that stands still."""
_WITH_PID = ("setup-namespaces", "post-restore")
_ORPHAN_PTS_MASTER = "orphan-pts-master"


class Client:
    """The client of one request.

    link             where it is
    restored         to be called with the pid of the root when the tree runs: it is answered then
    notify_scripts   it wants to know of each step
    orphan_pts_master  it wants the masters of terminals whose slaves alone are in the tree
    """

    def __init__(self, link: Link, fields: Message, restored: Callable[[int], None]) -> None:
        self.link = link
        self.restored = restored
        self.notify_scripts = bool(fields.notify_scripts)
        self.orphan_pts_master = bool(fields.orphan_pts_master)

    def notify(self, action: str, init_pid: int | None = None) -> bool:
        """Tell it of a step and wait for its answer. Returns whether it agrees to go on."""
        return not self.notify_scripts or self._agrees(self._ask(action, init_pid), action)

    def hand_over_master(self, fd: int) -> bool:
        """Give it the master of a terminal. Returns whether it took it."""
        return self._agrees(self._ask(_ORPHAN_PTS_MASTER, None, fd), _ORPHAN_PTS_MASTER)

    def ask_for_externals(self, opts: Options, frozen: Iterable[int]) -> None:
        """Let it name more external resources, by what it knows of the tree. frozen: pids of those who can't answer.

        Raises CrError.
        """
        if not self.notify_scripts:
            return
        if self.link.peer.pid in frozen:
            raise CrError(
                f"task {self.link.peer.pid} can't be dumped and be told of each step of it "
                "(leave notify_scripts out, or have somebody else ask)"
            )
        action = "query-ext-files"
        answer = self._ask(action, None)
        if not self._agrees(answer, action) or answer is None:
            raise CrError("the client has not said which files are external (query-ext-files), nothing has been dumped")
        from engine.rpc.fields import add_externals

        add_externals(opts, answer.opts.external)

    def _ask(self, action: str, init_pid: int | None, fd: int = -1) -> Message | None:
        """The client's answer, None when there is none."""
        question = message("criu_resp")(type=enum("criu_req_type")["NOTIFY"], success=True)
        question.notify.script = action
        if init_pid is not None and action in _WITH_PID:
            question.notify.pid = init_pid
        log.debug(f"Telling the client: {action}")
        if not self.link.send(question, fd):
            return None
        try:
            return self.link.receive(ANSWER_SECONDS)
        except (CrError, TimeoutError) as error:
            log.error(f"{action}: {error}")
            return None

    @staticmethod
    def _agrees(answer: Message | None, action: str) -> bool:
        if answer is None:
            log.error(f"the client has not answered {action}")
        elif answer.type != enum("criu_req_type")["NOTIFY"]:
            log.error(f"the client has answered {action} with another request")
        elif not answer.notify_success:
            log.error(f"the client says that {action} failed")
        else:
            return True
        return False
