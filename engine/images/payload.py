"""Payloads that have entries of their own inside: queued System V messages, and the chunks of large ghost files.

For all other kinds with payloads the entry says how many bytes follow, which ImageReader knows by itself.
"""

from __future__ import annotations

from engine.images.schema import message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from engine.images.reader import ImageReader
    from engine.images.writer import ImageWriter

_MESSAGE_ALIGN = 8


def ipc_messages(reader: ImageReader, queue: Any) -> Iterator[tuple[Any, bytes]]:
    """(ipc_msg, body) of each message in a queue, in order. To be used up before the next queue is asked for.

    queue: the ipc_msg_entry that the reader of IPCNS_MSG has just given.
    """
    for _ in range(queue.qnum):
        msg = reader.entry("ipc_msg")
        yield msg, reader.payload(msg.msize, _MESSAGE_ALIGN)


def put_ipc_message(writer: ImageWriter, msg: Any, body: bytes) -> None:
    """Append one message of the queue that was put last. msg: an ipc_msg with msize = len(body)."""
    writer.put(msg)
    writer.put_payload(body, _MESSAGE_ALIGN)


def ghost_contents(reader: ImageReader, ghost: Any) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """(offset in the ghost file, (descriptor, offset in the image, length)) of each stretch of data; the rest is holes.

    ghost: the ghost_file_entry that the reader of GHOST_FILE has just given.
    """
    if not ghost.chunks:
        yield 0, reader.payload_at()
        return
    while reader.left:
        chunk = reader.entry("ghost_chunk_entry")
        if chunk.off + chunk.len > ghost.size:
            raise reader.error(f"a chunk ends at {chunk.off + chunk.len} in a ghost file of {ghost.size} bytes")
        yield chunk.off, reader.payload_at(chunk.len)


def put_ghost_chunk(writer: ImageWriter, offset: int, length: int) -> None:
    """Announce a chunk; its bytes are to follow, by put_payload() or copy()."""
    writer.put(message("ghost_chunk_entry")(off=offset, len=length))
