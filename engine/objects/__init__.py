"""The kinds of open files. Adding one is one module here, one .proto, one test program, and its line below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.objects.epoll import Epoll
from engine.objects.eventfd import Eventfd
from engine.objects.fifo import Fifo
from engine.objects.pipe import Pipe
from engine.objects.regular import RegularFile
from engine.objects.signalfd import Signalfd
from engine.objects.timerfd import Timerfd

if TYPE_CHECKING:
    from engine.objects.base import FileKind

KINDS: tuple[FileKind, ...] = (
    Eventfd(),
    Epoll(),
    Signalfd(),
    Timerfd(),
    Pipe(),
    Fifo(),
    RegularFile(),
)
"""In the order in which a descriptor is offered to them; regular files take what is left."""

KIND_BY_TYPE: dict[int, FileKind] = {kind.type: kind for kind in KINDS}
