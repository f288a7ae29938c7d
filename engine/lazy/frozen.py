"""dump --lazy-pages: the dumped tree stands until a restore elsewhere has fetched its memory.

The images say of those pages only that there are some. Whoever restores asks for them over a connection, as a client
asks a page server, and says at last that nothing more is needed (CLOSE). Only then is the dump complete, and the tree
ends. Whatever else ends the connection has the dump fail: the tree goes on, as after any dump that has failed, and the
other side kills what it has restored. So that there are never two of them, the tree is ended before CLOSE is answered,
and a client that gets no answer ends its own.
"""

from __future__ import annotations

import contextlib
import select
from bisect import bisect_right
from typing import TYPE_CHECKING

from engine import log
from engine.action_scripts import announce_ready
from engine.errors import CrError
from engine.images.runs import LAZY, PAGE, PRESENT
from engine.option import EBADRQC
from engine.task.pages import Run
from engine.transport import endpoint
from engine.transport.protocol import SIZE, STATUS, Command, PageMessage

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from engine.action_scripts import ActionScripts
    from engine.dump_context import DumpContext
    from engine.options import Options
    from engine.task.tree import Task
    from engine.transport.channel import Channel

COMING_SECONDS = 600
"""How long the tree stands until a client comes. Its machine needs the images first."""
PATIENCE_SECONDS = 600.0
"""How long a client may say nothing: its restore may have to be started."""
_LONGER = 2
"""How many times as long as the client the tree's side waits for a machine that is not to be reached any more. When the
link is cut, the client has killed what it restored by the time the tree goes on."""
_MOST = 4 << 20
_FAREWELLS = (Command.CLOSE, Command.FORCE_CLOSE)


def leave_lazy(runs: list[Run]) -> list[Run]:
    """The runs of a page map without the pages that can be fetched later."""
    found = []
    offset = 0
    for run in runs:
        if run.flags & LAZY:
            found.append(run._replace(flags=LAZY, offset=0))
            continue
        found.append(run._replace(offset=offset))
        offset += run.end - run.start if run.flags & PRESENT else 0
    return found


class FrozenPages:
    """Part of a DumpContext: what is left in the frozen tasks."""

    def __init__(self, _: DumpContext) -> None:
        self._tasks: dict[int, tuple[Task, list[Run]]] = {}

    def keep(self, task: Task, runs: list[Run]) -> None:
        """runs: those of its page map."""
        self._tasks[task.pid] = task, [run for run in runs if run.flags == LAZY]

    def read(self, pid: int, start: int, size: int) -> bytes | None:
        """The pages at an address, as many of those that are wanted as follow one another. None: there are none."""
        if pid not in self._tasks:
            return None
        task, runs = self._tasks[pid]
        index = bisect_right(runs, start, key=lambda run: run.start) - 1
        if index < 0 or not runs[index].start <= start < runs[index].end:
            return None
        return task.memory.read(start, min(size, runs[index].end - start, _MOST))


@contextlib.contextmanager
def listening(opts: Options) -> Iterator[socket.socket | None]:
    """The socket at which a dump --lazy-pages is going to serve; None for any other dump. Raises CrError."""
    if not opts.lazy_pages:
        yield None
        return
    if opts.page_server:
        raise CrError("--lazy-pages keeps pages here, --page-server sends them away (use one)", EBADRQC)
    server = endpoint.given(opts.ps_socket) if opts.ps_socket >= 0 else endpoint.listen(opts)
    with server:
        yield server


def serve(opts: Options, scripts: ActionScripts, server: socket.socket, pages: FrozenPages) -> Channel:
    """Give a client all that it asks for until it says CLOSE, which is still to be answered. Raises CrError."""
    where = endpoint.name_of(server) if opts.ps_socket < 0 else f"the other end of descriptor {opts.ps_socket}"
    log.info(f"The tree stands and its pages are to be had at {where}")
    announce_ready(opts, scripts)
    if opts.ps_socket < 0:
        poll = select.poll()
        poll.register(server, select.POLLIN)
        if not poll.poll(COMING_SECONDS * 1000):
            raise CrError(f"nobody has come within {COMING_SECONDS} seconds to fetch the tree's pages; it goes on")
    channel = endpoint.accept(opts, server, PATIENCE_SECONDS, _LONGER * opts.remote_timeout)
    try:
        while (message := PageMessage.decode(channel.receive(SIZE))).command not in _FAREWELLS:
            _answer(channel, message, pages)
    except BaseException:
        channel.close()
        raise
    return channel


def _answer(channel: Channel, message: PageMessage, pages: FrozenPages) -> None:
    if message.command != Command.GET:
        raise CrError(f"{channel.peer} asks for {message.command}, but there are only pages to be had")
    content = pages.read(message.destination, message.vaddr, message.nr_pages * PAGE)
    if not content:
        raise CrError(f"{channel.peer} asks for pages at {message.vaddr:#x} of task {message.destination}: not dumped")
    answer = PageMessage(Command.ADD_F, PRESENT, len(content) // PAGE, message.vaddr, message.destination)
    channel.send(answer.encode())
    channel.send(content)


def confirm(channel: Channel) -> None:
    """Answer CLOSE: the tree has ended. A client that does not get that ends what it has restored."""
    try:
        channel.send(STATUS.pack(0))
    except CrError as error:
        log.error(f"{error.message}; if the client did not get to know that the tree has ended here, it ends it there")
    finally:
        channel.close()
