"""Tapes: system calls that a task makes for us, compiled here and run there in one go.

A tape is an array of records followed by its data:

    u32 nr, u32 flags, u64 arg0 .. arg5, u64 result          (64 bytes)

The interpreter (arch/*.S) runs record after record. An error ends the tape, unless the record may fail. Results stay
in the records, so the whole tape is read back once and every call's outcome and every buffer is there.

    tape = Tape()
    name = tape.buffer(b"/etc/hostname\\0")
    file = tape.call("openat", AT_FDCWD, name, O_RDONLY)
    text = tape.buffer(64)
    tape.call("read", file, text, 64)         # file: the result of an earlier call
    tape.call("close", file)
    visit.run(tape)
    text.content
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from engine.kernel.libc import NR

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeGuard

RECORD = struct.Struct("<II7Q")
RECORD_SIZE = 64
_RESULT = struct.Struct("<q")
MAY_FAIL, LAST, COPY, HOME = 1, 2, 4, 8
_RESULT_OFFSET = 56
_ARGS_OFFSET = 8
_ALIGN = 16
_MASK64 = (1 << 64) - 1
_NOTHING = (0,) * 7
"""What stands in a record for arguments that a call does not have, and for the result."""
INT32 = 0xFFFFFFFF


class Buffer:
    """Bytes beside the tape: given to a call by address, read back after the run."""

    __slots__ = ("content", "offset", "size")

    def __init__(self, offset: int, content: bytes) -> None:
        self.offset = offset
        self.size = len(content)
        self.content = content

    def at(self, offset: int) -> Address:
        """The address of a byte inside, as an argument."""
        return Address(self, offset)

    def unpack(self, form: str) -> tuple[int, ...]:
        """The content as numbers, struct notation."""
        return struct.unpack_from(form, self.content)


class Address:
    """A place inside a buffer. As an argument: its address; word=True: the value found there when the record runs."""

    __slots__ = ("buffer", "mask", "offset", "word")

    def __init__(self, buffer: Buffer, offset: int, word: bool = False, mask: int = _MASK64) -> None:
        self.buffer = buffer
        self.offset = offset
        self.word = word
        self.mask = mask


def int32_at(buffer: Buffer, offset: int) -> Address:
    """The int that stands in the buffer when the record runs: a descriptor that socketpair or recvmsg put there."""
    return Address(buffer, offset, word=True, mask=INT32)


class Call:
    """A record. After the run, `result` is what the call returned: negative errno for an error that was allowed."""

    __slots__ = ("args", "flags", "index", "name", "nr", "result")

    def __init__(self, index: int, name: str, nr: int, flags: int, args: Sequence[Argument]) -> None:
        self.index = index
        self.name = name
        self.nr = nr
        self.flags = flags
        self.args = args
        self.result = 0

    @property
    def failed(self) -> bool:
        return -4096 < self.result < 0


Argument = int | Buffer | Address | Call
_PLAIN = (int, Buffer)


def _is_dynamic(arg: Argument) -> TypeGuard[Call | Address]:
    """Whether an argument is known only when the tape runs."""
    return isinstance(arg, Call) or (isinstance(arg, Address) and arg.word)


class TapeError(OSError):
    """A call on a tape failed: errno as always, the message names the call. tid: the thread, once that is known."""

    tid = 0

    def __init__(self, code: int, call: Call) -> None:
        numbers = ", ".join(hex(a) if isinstance(a, int) else type(a).__name__.lower() for a in call.args)
        super().__init__(code, f"{call.name}({numbers}): {os.strerror(code)}")
        self.call = call


class _Copy:
    """A copy record: takes a value and puts it into an argument slot of a later record, or at an address."""

    __slots__ = ("position", "source", "target")

    def __init__(self, source: Call | Address, target: int, position: int = -1) -> None:
        self.source = source
        self.target = target
        self.position = position

    def destination(self, base: int) -> int:
        if self.position < 0:
            return self.target
        return base + self.target * RECORD_SIZE + _ARGS_OFFSET + self.position * 8


class Tape:
    """System calls in the making. Give it to Visit.run() or Stub.run()."""

    def __init__(self) -> None:
        self._records: list[Call | _Copy] = []
        self._buffers: list[Buffer] = []
        self._words: list[tuple[Buffer, tuple[int | Buffer | Address, ...]]] = []
        self._data_size = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def size(self) -> int:
        """Bytes that the tape occupies in the task."""
        return len(self._records) * RECORD_SIZE + self._data_size

    def buffer(self, content: bytes | int) -> Buffer:
        """Room beside the tape: initial content, or a number of zero bytes."""
        initial = bytes(content)
        buffer = Buffer(self._data_size, initial)
        self._buffers.append(buffer)
        self._data_size += -(-max(len(initial), 1) // _ALIGN) * _ALIGN
        return buffer

    def words(self, *fields: int | Buffer | Address) -> Buffer:
        """A structure of 64-bit words, pointers among them: an iovec array, a msghdr."""
        buffer = self.buffer(8 * len(fields))
        self._words.append((buffer, fields))
        return buffer

    def call(self, name: str, *args: Argument, may_fail: bool = False) -> Call:
        """Add a system call. An argument that is an earlier Call stands for its result."""
        dynamic = [(n, a) for n, a in enumerate(args) if not isinstance(a, _PLAIN) and _is_dynamic(a)]
        index = len(self._records) + len(dynamic)
        self._records += [_Copy(source, index, position) for position, source in dynamic]
        record = Call(index, name, NR[name], MAY_FAIL if may_fail else 0, args)
        self._records.append(record)
        return record

    def store(self, target: int, source: Call | Address | int) -> None:
        """Add a record that writes a 64-bit value at an address in the task: a result, a word of a buffer, a number."""
        if isinstance(source, int):
            source = Address(self.buffer(struct.pack("<Q", source & _MASK64)), 0, word=True)
        self._records.append(_Copy(source, target))

    def compile(self, base: int, final: int = LAST) -> bytes:
        """The tape as it stands at address `base`. final: flags of the last record, LAST or HOME."""
        data = base + len(self._records) * RECORD_SIZE
        out = bytearray(self.size)
        last = len(self._records) - 1
        for number, record in enumerate(self._records):
            flags = final if number == last else 0
            if isinstance(record, Call):
                values = [arg & _MASK64 if isinstance(arg, int) else self._value(arg, data) for arg in record.args]
                fields = (record.nr, record.flags | flags, *values, *_NOTHING[len(values) :])
            else:
                source = self._address(record.source, base, data)
                mask = record.source.mask if isinstance(record.source, Address) else _MASK64
                fields = (0, COPY | flags, source, record.destination(base), mask, *_NOTHING[3:])
            RECORD.pack_into(out, number * RECORD_SIZE, *fields)
        start = len(self._records) * RECORD_SIZE
        for buffer in self._buffers:
            out[start + buffer.offset : start + buffer.offset + buffer.size] = buffer.content
        for buffer, words in self._words:
            values = [self._value(word, data) for word in words]
            struct.pack_into(f"<{len(values)}Q", out, start + buffer.offset, *values)
        return bytes(out)

    @staticmethod
    def _value(arg: Argument, data: int) -> int:
        if isinstance(arg, int):
            return arg & _MASK64
        if isinstance(arg, Buffer):
            return data + arg.offset
        if isinstance(arg, Address) and not arg.word:
            return data + arg.buffer.offset + arg.offset
        return 0

    @staticmethod
    def _address(source: Call | Address, base: int, data: int) -> int:
        if isinstance(source, Call):
            return base + source.index * RECORD_SIZE + _RESULT_OFFSET
        return data + source.buffer.offset + source.offset

    def load(self, content: bytes, stopped_at: int) -> None:
        """Take results and buffers from what the tape became. stopped_at: index of the record that ended it.

        Raises TapeError when that record failed and was not allowed to.
        """
        for number, record in enumerate(self._records[: stopped_at + 1]):
            if isinstance(record, Call):
                (record.result,) = _RESULT.unpack_from(content, number * RECORD_SIZE + _RESULT_OFFSET)
        last = self._records[stopped_at]
        if isinstance(last, Call) and last.failed and not last.flags & MAY_FAIL:
            raise TapeError(-last.result, last)
        start = len(self._records) * RECORD_SIZE
        for buffer in self._buffers:
            buffer.content = content[start + buffer.offset : start + buffer.offset + buffer.size]
