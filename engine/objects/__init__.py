"""The kinds of open files. Adding one is one module here, one .proto, one test program, and its line below."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from engine.objects.bpf_map import BpfMap
from engine.objects.epoll import Epoll
from engine.objects.eventfd import Eventfd
from engine.objects.ext_file import EXT_FILE
from engine.objects.fanotify import Fanotify
from engine.objects.fifo import Fifo
from engine.objects.inotify import Inotify
from engine.objects.memfd import MEMFD
from engine.objects.namespace_file import NamespaceFile
from engine.objects.pidfd import Pidfd
from engine.objects.pipe import Pipe
from engine.objects.regular import REGULAR
from engine.objects.signalfd import Signalfd
from engine.objects.timerfd import Timerfd
from engine.objects.tty import Tty
from engine.objects.unix_socket import UNIX_SOCKET
from engine.objects.unsupported import UNSUPPORTED

if TYPE_CHECKING:
    from engine.objects.base import FileKind, OpenFile

KINDS: tuple[FileKind, ...] = (
    Eventfd(),
    Epoll(),
    Signalfd(),
    Timerfd(),
    Pidfd(),
    Inotify(),
    Fanotify(),
    UNIX_SOCKET,
    Pipe(),
    Fifo(),
    BpfMap(),
    MEMFD,
    NamespaceFile(),
    Tty(),
    REGULAR,
    EXT_FILE,
    UNSUPPORTED,
)
"""In the order in which a descriptor is offered to them: what has a path is a regular file, the rest is refused."""

KIND_BY_TYPE: dict[int, FileKind] = {kind.type: kind for kind in KINDS if kind is not UNSUPPORTED}


def kind_of(file: OpenFile) -> FileKind:
    """The kind of a description. What was opened with O_PATH is no more than a path, whatever it leads to."""
    kinds = (MEMFD, REGULAR, UNSUPPORTED) if file.flags & os.O_PATH else KINDS
    return next(kind for kind in kinds if kind.recognise(file))
