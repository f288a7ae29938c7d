"""Images of any kind with anything in them: every field set to something, and payloads as their entries say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from engine.images import magic
from engine.images.magic import KINDS
from engine.images.reader import payload_length
from engine.images.schema import message
from tests.images.samples import put_ghost_chunk, put_ipc_message

if TYPE_CHECKING:
    from google.protobuf.descriptor import FieldDescriptor

    from engine.images.directory import ImageDir
    from engine.images.writer import ImageWriter

_DEPTH = 4
_SIZES = {"bytes", "length", "inq_len", "outq_len", "keys_bytes", "values_bytes", "size", "nsems"}
_ALIGNS = {"IPCNS_SHM": 4, "IPCNS_SEM": 8}
KINDS_OF_FILES = [name for name, kind in KINDS.items() if kind.framing != magic.RAW_MAGIC]


class Anything:
    """Makes messages. seed: the same one makes the same."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def message(self, name: str) -> Any:
        made = message(name)()
        self._fill(made, _DEPTH)
        return made

    def _fill(self, made: Any, depth: int) -> None:
        for field in made.DESCRIPTOR.fields:
            if field.is_required or (depth and self.rng.random() < 0.8):
                for _ in range(self.rng.choice((1, 1, 4)) if field.is_repeated else 1):
                    self._set(made, field, depth)

    def _set(self, made: Any, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None:
            part = getattr(made, field.name)
            part = part.add() if field.is_repeated else part
            part.SetInParent()
            self._fill(part, max(depth - 1, 0))
        elif field.is_repeated:
            getattr(made, field.name).append(self._value(field))
        else:
            setattr(made, field.name, self._value(field))

    def _value(self, field: FieldDescriptor) -> Any:
        rng = self.rng
        if field.type == field.TYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        if field.type == field.TYPE_BOOL:
            return rng.random() < 0.5
        if field.type == field.TYPE_BYTES:
            return rng.randbytes(rng.choice((0, 1, 30, 200)))
        if field.type == field.TYPE_STRING:
            return "".join(rng.choice('ab/"\\\n é€𝄞') for _ in range(rng.choice((0, 3, 20))))
        if field.name in _SIZES:
            return rng.randrange(300)
        bits = 31 if field.type in (field.TYPE_UINT32, field.TYPE_INT32, field.TYPE_SINT32) else 63
        if field.type in (field.TYPE_UINT32, field.TYPE_UINT64, field.TYPE_FIXED64, field.TYPE_FIXED32):
            return rng.getrandbits(rng.choice((0, 1, 5, 20, bits, bits + 1)))
        return rng.getrandbits(rng.choice((0, 5, bits))) * rng.choice((1, -1))

    def data(self, length: int) -> bytes:
        return self.rng.randbytes(length)


def write(images: ImageDir, name: str, seed: int) -> None:
    """Write an image of a kind."""
    kind, anything = KINDS[name], Anything(seed)
    ids = [17] if "%" in kind.pattern and "%s" not in kind.pattern else ["dump"] if "%s" in kind.pattern else []
    with images.writer(name, *ids) as writer:
        if kind.framing == magic.RAW:
            writer.put_payload(anything.data(1000))
        elif kind.framing == magic.GHOST:
            _write_ghost(writer, anything)
        elif kind.framing == magic.HEAD_ARRAY:
            writer.put(anything.message(kind.messages[0]))
            for _ in range(5):
                writer.put(anything.message(kind.messages[1]))
        else:
            for _ in range(1 if kind.framing in (magic.SINGLE, magic.SINGLE_PAYLOAD) else 5):
                _write_entry(writer, anything)


def _write_entry(writer: ImageWriter, anything: Anything) -> None:
    kind = writer.kind
    entry = anything.message(kind.messages[0])
    if kind.name == "IPCNS_MSG":
        entry.qnum %= 4
        writer.put(entry)
        for _ in range(entry.qnum):
            put_ipc_message(writer, anything.data(anything.rng.randrange(30)))
        return
    writer.put(entry)
    if kind.framing in (magic.ARRAY_PAYLOAD, magic.SINGLE_PAYLOAD):
        writer.put_payload(anything.data(payload_length(kind, entry)), _ALIGNS.get(kind.name, 1))


def _write_ghost(writer: ImageWriter, anything: Anything) -> None:
    ghost = anything.message("ghost_file_entry")
    ghost.chunks = anything.rng.random() < 0.5
    ghost.size = 1 << 30
    writer.put(ghost)
    if not ghost.chunks:
        writer.put_payload(anything.data(anything.rng.choice((0, 500))))
        return
    for offset in range(0, 5000, 1000):
        put_ghost_chunk(writer, offset, anything.data(500))
