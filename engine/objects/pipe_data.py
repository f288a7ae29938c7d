"""What is queued in a pipe or fifo: reading it without taking it out, and putting it into a new one.

tee(2) gives our own pipe references to the same buffers, and the original keeps them. A pipe whose writer has O_DIRECT
holds packets: each write is a buffer of its own, and a read ends where one ends (pipe(7), "packet mode"). The buffers
that tee hands on are still packets, so reading our pipe shows their borders.
"""

from __future__ import annotations

import fcntl
import os
import select
import stat
import struct
import termios
from typing import TYPE_CHECKING, Any

from engine.errors import CrError
from engine.kernel.libc import NR, syscall
from engine.objects.paths import reopen
from engine.objects.status_flags import SETTABLE

if TYPE_CHECKING:
    from engine.images.writer import ImageWriter
    from engine.objects.base import OpenFile
    from engine.restore_context import RestoreContext

Message = Any

_SPLICE_F_NONBLOCK = 2
_INO_MASK = 0xFFFFFFFF


# Dump


def directions(files: list[OpenFile]) -> set[int]:
    """Which ends of a pipe there are among its descriptions: O_RDONLY, O_WRONLY."""
    found: set[int] = set()
    for file in files:
        mode = file.flags & os.O_ACCMODE
        found |= {os.O_RDONLY, os.O_WRONLY} if mode == os.O_RDWR else {mode}
    return found


def has_peer(file: OpenFile) -> bool:
    """Whether anybody has the other end of a pipe open: else a reader sees a hang-up, a writer an error (poll(2)).

    A reader of a fifo that has not seen a writer yet sees no hang-up (fs/pipe.c, pipe_poll). tee(2) tells it: it finds
    the end of an empty pipe that nobody writes to, and has to wait where somebody does.
    """
    poll = select.poll()
    poll.register(file.copy, 0)
    if poll.poll(0):
        return False
    if file.flags & os.O_ACCMODE == os.O_WRONLY:
        return True
    own_read, own_write = os.pipe()
    try:
        return syscall(NR["tee"], file.copy, own_write, 1, _SPLICE_F_NONBLOCK) != 0
    except BlockingIOError:
        return True
    finally:
        os.close(own_read)
        os.close(own_write)


def write(image: ImageWriter, pipe_id: int, files: list[OpenFile], external: bool = False) -> None:
    """Add a pipe's contents to its image. files: its descriptions. external: somebody else has the other end."""
    from engine.images.schema import message

    readable = next((file.copy for file in files if file.flags & os.O_ACCMODE != os.O_WRONLY), None)
    packets = _peek(files[0].copy, readable)
    entry = message("pipe_data_entry")(pipe_id=pipe_id, bytes=sum(map(len, packets)))
    entry.size = fcntl.fcntl(files[0].copy, fcntl.F_GETPIPE_SZ)
    if len(packets) > 1:
        entry.packets.extend(map(len, packets))
    if external:
        entry.external = True
    image.put(entry)
    image.put_payload(b"".join(packets))


def _peek(end: int, readable: int | None) -> list[bytes]:
    """The bytes in a pipe, as one piece or, where there are packets, as these.

    Without a readable end one is opened. Not otherwise: closing it raises SIGIO for O_ASYNC users of a half-open pipe.
    """
    count = queued(end)
    if not count:
        return []
    source = readable if readable is not None else reopen(end, os.O_RDONLY | os.O_NONBLOCK)
    own_read, own_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        fcntl.fcntl(own_write, fcntl.F_SETPIPE_SZ, fcntl.fcntl(end, fcntl.F_GETPIPE_SZ))
        if syscall(NR["tee"], source, own_write, count, _SPLICE_F_NONBLOCK) != count:
            what = f"pipe:[{os.fstat(end).st_ino}]: its {count} bytes can't be copied in one go"
            raise CrError(f"{what} (does somebody outside the tree read it?)")
        packets = []
        while count:
            packets.append(os.read(own_read, count))
            count -= len(packets[-1])
        return packets
    finally:
        os.close(own_read)
        os.close(own_write)
        if source != readable:
            os.close(source)


def queued(fd: int) -> int:
    """Bytes in a pipe. fd: any end of it."""
    (count,) = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))
    return int(count)


# Restore


class Queues:
    """The contents of pipes-data.img or fifo-data.img, by pipe_id."""

    def __init__(self, ctx: RestoreContext, kind: str) -> None:
        self._entries: dict[int, Message] = {}
        self._data: dict[int, bytes] = {}
        if not ctx.images.exists(kind):
            return
        with ctx.images.reader(kind) as reader:
            for entry in reader:
                self._entries[entry.pipe_id] = entry
                self._data[entry.pipe_id] = reader.payload()
                if entry.packets and sum(entry.packets) != entry.bytes:
                    raise reader.error(f"the packets of pipe {entry.pipe_id} are not all of its bytes")

    def entry(self, pipe_id: int) -> Message | None:
        """The pipe_data_entry of a pipe."""
        return self._entries.get(pipe_id)

    def problem(self, pipe_id: int) -> str | None:
        """Why a pipe can't be as large as it was, None if it can. Found by trying."""
        size = self._size(pipe_id)
        read_end, write_end = os.pipe()
        try:
            _set_size(write_end, size)
        except OSError as error:
            return f"its buffer of {size} bytes can't be had: {error.strerror}"
        finally:
            os.close(read_end)
            os.close(write_end)
        return None

    def _size(self, pipe_id: int) -> int:
        entry = self._entries.get(pipe_id)
        return entry.size if entry else 0

    def set_size(self, pipe_id: int, fd: int) -> None:
        """Give a new pipe the size that it had."""
        _set_size(fd, self._size(pipe_id))

    def adopt(self, pipe_id: int, given: int, ends: list[int]) -> list[int]:
        """The ends of what the user passes in place of a pipe: the first end that fits is the passed description, all
        others are opened anew. given: a descriptor, ours from now on; ends: open flags.

        What was queued goes in where the tree is to read it, unless this is the old pipe, which still has it. Where
        the tree only writes, it is for a reader outside, who has the old pipe to read it from.
        """
        info = os.fstat(given)
        if not stat.S_ISFIFO(info.st_mode):
            return [given, *(os.dup(given) for _ in ends[1:])]
        if any(flags & os.O_ACCMODE != os.O_WRONLY for flags in ends) and info.st_ino & _INO_MASK != pipe_id:
            self._refill(pipe_id, given, ends)
        made: list[int] = []
        mode = fcntl.fcntl(given, fcntl.F_GETFL) & os.O_ACCMODE
        for flags in ends:
            fits = given not in made and flags & os.O_ACCMODE == mode
            made.append(given if fits else reopen(given, flags & os.O_ACCMODE | os.O_NONBLOCK))
            fcntl.fcntl(made[-1], fcntl.F_SETFL, flags & SETTABLE)
        if given not in made:
            os.close(given)
        return made

    def _refill(self, pipe_id: int, given: int, ends: list[int]) -> None:
        entry = self._entries.get(pipe_id)
        if entry is None or not entry.bytes:
            return
        there = queued(given)
        if there:
            what = f"pipe {pipe_id}: the passed pipe holds {there} bytes, which would come before the {entry.bytes} old"
            raise CrError(f"{what} ones (pass an empty pipe)")
        both = reopen(given, os.O_RDWR)
        try:
            self.fill(pipe_id, both, ends)
        finally:
            os.close(both)

    def fill(self, pipe_id: int, fd: int, ends: list[int]) -> None:
        """Set a new pipe's size and put in what was queued.

        fd    an end to write to, whose flags are changed
        ends  open flags of the ends that it shall have
        """
        entry = self._entries.get(pipe_id)
        if entry is None:
            return
        data = self._data.pop(pipe_id, b"")
        writes_packets = any(flags & os.O_DIRECT and flags & os.O_ACCMODE != os.O_RDONLY for flags in ends)
        packet_mode = writes_packets or bool(entry.packets)
        try:
            _set_size(fd, entry.size)
            fcntl.fcntl(fd, fcntl.F_SETFL, os.O_NONBLOCK | (os.O_DIRECT if packet_mode else 0))
            start = 0
            for length in entry.packets or [len(data)]:
                written = os.write(fd, data[start : start + length]) if length else 0
                if written != length:
                    raise CrError(f"pipe {pipe_id}: {written} of {length} bytes fit in again (is the image whole?)")
                start += length
        except OSError as error:
            raise CrError(f"pipe {pipe_id}: can't be filled: {error.strerror}") from error


def _set_size(fd: int, size: int) -> None:
    if size and size != fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ):
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, size)
