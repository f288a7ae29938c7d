"""The requests PAGE_SERVER and PAGE_SERVER_CHLD: a page server in a process of its own, whose pid and port are told.

PAGE_SERVER_CHLD leaves it a child of ours, so that WAIT_PID on the same connection tells how it ended.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.daemon import leave_terminal
from engine.errors import CrError
from engine.kernel.title import set_title
from engine.report import report
from engine.transport import page_server

if TYPE_CHECKING:
    import socket

    from engine.options import Options
    from engine.rpc.requests import Call


def start(call: Call, as_child: bool) -> int:
    """Do the request. Returns the exit status; raises CrError."""
    opts = call.settle("page-server")
    with page_server.prepare(opts) as server:
        port = server.getsockname()[1] if opts.ps_socket < 0 else 0
        pid = _fork(call, opts, server) if as_child else _start_daemon(call, opts, server)
    call.answer.ps.pid, call.answer.ps.port = pid, port
    return 0


def _start_daemon(call: Call, opts: Options, server: socket.socket) -> int:
    """Nobody's child. Returns its pid."""
    read_end, write_end = os.pipe()
    starter = os.fork()
    if not starter:
        try:
            os.setsid()
            leave_terminal()
            os.write(write_end, str(_fork(call, opts, server)).encode())
        finally:
            os._exit(0)
    os.waitpid(starter, 0)
    os.close(write_end)
    with open(read_end, "rb", buffering=0) as answer:
        os.set_blocking(read_end, False)
        pid = answer.read(16)
    if not pid:
        raise CrError("no process could be started for the page server")
    return int(pid)


def _fork(call: Call, opts: Options, server: socket.socket) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        call.session.link.leave()
        set_title("page-server --rpc")
        status = page_server.serve(opts, server)
    except BaseException as error:
        report(error)
    finally:
        os._exit(status)
