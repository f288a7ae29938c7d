"""crucible swrk FD: serve the one client that started this process, over a connected socket that it has given it.

It is a child of the client's. That is what restores of siblings and inherited descriptors need, and why it asks nobody
for credentials: who could start it has the same.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from engine import restore, worker
from engine.errors import CrError
from engine.kernel.title import set_title
from engine.option import EBADRQC
from engine.rpc.link import Link
from engine.rpc.session import Session, base_options

if TYPE_CHECKING:
    from engine.options import Options
    from engine.worker import Runner


def run(opts: Options) -> int:
    """The verb. Returns the exit status, 255 when the client breaks the protocol or says nothing; raises CrError."""
    number = int(opts.words[0])
    try:
        sock = socket.socket(fileno=number)
    except (OSError, OverflowError) as error:
        raise CrError(f"swrk {number}: {getattr(error, 'strerror', error)}", EBADRQC) from None
    set_title(f"swrk {number}")
    return Session(Link(sock), base_options(opts), _runner, in_service=False).serve()


def _runner(opts: Options) -> Runner:
    return restore.choose_runner(opts) if opts.command == "restore" else worker.run
