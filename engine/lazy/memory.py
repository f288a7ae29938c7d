"""One address space whose pages are still to come: its userfaultfd, what is pending, and filling it.

What happens to the address space is told as events. Until an event has been read the kernel lets nothing be filled, so
what is pending is always what the page tables lack. All events that have been read are taken in before any fault is
looked at: a fault may be older than the mremap that was read with it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import TYPE_CHECKING

from engine.images.runs import PAGE
from engine.kernel import userfaultfd

if TYPE_CHECKING:
    from collections.abc import Callable

    from engine.lazy.pending import Pending

_CHANGING_MS = 20


class LazyMemory:
    """An address space.

    pid      of the images that its pages come from; that of a child of a fork is its parent's
    fd       its userfaultfd, non-blocking
    pending  what is still to come
    faults   pages that somebody waits for, in the order in which they were told
    cursor   where to go on with what nobody has asked for
    gone     whether the address space exists no more
    """

    def __init__(self, pid: int, fd: int, pending: Pending, adopt: Callable[[LazyMemory], None]) -> None:
        """adopt: is told of the address spaces of new children."""
        self.pid = pid
        self.fd = fd
        self.pending = pending
        self.faults: dict[int, None] = {}
        self.cursor = 0
        self.gone = False
        self._adopt = adopt

    def close(self) -> None:
        """Nothing is pending any more. Whoever waits finds the page, or a zero page."""
        os.close(self.fd)

    def listen(self) -> None:
        """Read all that waits. Raises OSError when there is no descriptor left for a child (EMFILE)."""
        while messages := userfaultfd.read(self.fd):
            for message in messages:
                self._take_in(message)

    def _take_in(self, message: userfaultfd.Message) -> None:
        first, second, third = message.words
        if message.kind == userfaultfd.PAGEFAULT:
            self.faults[second & -PAGE] = None
        elif message.kind == userfaultfd.FORK:
            self._adopt(LazyMemory(self.pid, first, self.pending.copy(), self._adopt))
        elif message.kind == userfaultfd.REMAP:
            self.pending.move(first, second, third)
            self._wake(first, third)
        else:
            self.pending.drop(first, second)
            self._wake(first, second - first)

    def fill(self, start: int, end: int, source: int) -> None:
        """Bring pages to wherever they are waited for.

        start, end  their addresses in the images
        source      where they are in our memory
        """
        while not self.gone and (piece := self.pending.from_origin(start, end)):
            done = self._try(piece.start, piece.end - piece.start, source + piece.origin - start)
            self.pending.drop(piece.start, piece.start + done)

    def _try(self, to: int, size: int, source: int) -> int:
        """Fill what can be filled at once. Returns how far that settles things, 0 when to look again."""
        try:
            return userfaultfd.copy(self.fd, to, source, size)
        except OSError as error:
            if error.errno == errno.ENOENT and size > PAGE:
                # Not all of it is in one mapping; mprotect(2) divides them.
                return self._try(to, size // 2 // PAGE * PAGE, source)
            return PAGE if self._is_settled(error, to) else 0

    def settle(self, page: int) -> None:
        """A fault of a page of which there is nothing to come: it is zero, or has come already. Where something that is
        pending has been moved to meanwhile, it is a fault again."""
        if self.pending.at(page):
            self.faults[page] = None
            return
        try:
            userfaultfd.zero(self.fd, page, PAGE)
        except OSError as error:
            if not self._is_settled(error, page) and not self.gone:
                self.faults[page] = None

    def _is_settled(self, error: OSError, page: int) -> bool:
        """Whether nothing more is to be done for a page that could not be filled. Raises the error if it is another."""
        if error.errno == errno.EAGAIN:
            self._await_change()
            return False
        if error.errno == errno.ESRCH:
            self.gone = True
            return False
        if error.errno not in (errno.EEXIST, errno.ENOENT):
            raise error
        self._wake(page, PAGE)
        return True

    def _wake(self, start: int, size: int) -> None:
        """Have who waits for pages look again: they are there, or something else has come to be there. Else it is a new
        fault."""
        with contextlib.suppress(OSError):
            userfaultfd.wake(self.fd, start, size)

    def _await_change(self) -> None:
        """The address space is just changing; the event comes when it has. Who changes it may die before."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        poll.poll(_CHANGING_MS)
        self.listen()
