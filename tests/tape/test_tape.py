"""Compiling tapes and taking their results, against a model of the interpreter."""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernel.libc import NR
from engine.tape.tape import HOME, RECORD_SIZE, Buffer, Call, Tape, TapeError, int32_at
from tests.tape.model import Machine

BASE = 0x7000_0000_0000
MASK64 = (1 << 64) - 1


def run(tape: Tape, *results: int) -> tuple[list[tuple[int, ...]], Machine]:
    """Run a tape whose calls return these results in turn. Gives (nr, args...) of the calls that were made."""
    calls: list[tuple[int, ...]] = []
    answers = iter(results)

    def kernel(_machine: Machine, nr: int, args: tuple[int, ...]) -> int:
        calls.append((nr, *args))
        return next(answers)

    machine = Machine(BASE, tape.compile(BASE), kernel)
    stopped_at = machine.run()
    tape.load(bytes(machine.memory), stopped_at)
    return calls, machine


def test_numbers_are_arguments() -> None:
    tape = Tape()
    call = tape.call("openat", -100, 1 << 63, 3)
    calls, _ = run(tape, 7)
    assert calls == [(NR["openat"], -100 & MASK64, 1 << 63, 3, 0, 0, 0)]
    assert call.result == 7
    assert not call.failed


def test_buffer_is_an_address_and_comes_back() -> None:
    tape = Tape()
    text = tape.buffer(b"abc")
    room = tape.buffer(8)
    tape.call("read", room, text.at(1), 8)

    def kernel(machine: Machine, _nr: int, args: tuple[int, ...]) -> int:
        assert bytes(machine.memory[args[1] - BASE :][:2]) == b"bc"
        struct.pack_into("<q", machine.memory, args[0] - BASE, -5)
        return 0

    machine = Machine(BASE, tape.compile(BASE), kernel)
    stopped_at = machine.run()
    tape.load(bytes(machine.memory), stopped_at)
    assert room.unpack("<q") == (-5,)
    assert text.content == b"abc"


def test_result_of_an_earlier_call_is_an_argument() -> None:
    tape = Tape()
    first = tape.call("openat", 0)
    second = tape.call("dup3", first, 9, first)
    tape.call("close", second)
    calls, _ = run(tape, 41, 9, 0)
    assert [call[1:4] for call in calls] == [(0, 0, 0), (41, 9, 41), (9, 0, 0)]


def test_word_of_a_buffer_is_an_argument_when_the_record_runs() -> None:
    """An int that a call puts into a buffer, the way socketpair does; the int beside it is masked away."""
    tape = Tape()
    pair = tape.buffer(8)
    tape.call("socketpair", pair)
    tape.call("close", int32_at(pair, 0))
    tape.call("close", int32_at(pair, 4))
    seen = []

    def kernel(machine: Machine, nr: int, args: tuple[int, ...]) -> int:
        if nr == NR["socketpair"]:
            struct.pack_into("<ii", machine.memory, args[0] - BASE, 11, 12)
        else:
            seen.append(args[0])
        return 0

    # int32_at reads a word of eight bytes: there must be memory behind the last int.
    content = tape.compile(BASE)
    machine = Machine(BASE, content + bytes(8), kernel)
    stopped_at = machine.run()
    tape.load(bytes(machine.memory), stopped_at)
    assert seen == [11, 12]


def test_words_hold_pointers() -> None:
    tape = Tape()
    inner = tape.buffer(b"inner")
    iovec = tape.words(inner, 5, inner.at(2), -1)
    tape.call("writev", 1, iovec, 1)
    calls, machine = run(tape, 5)
    start = calls[0][2]
    first, length, second, minus = (machine.word(start + 8 * n) for n in range(4))
    assert bytes(machine.memory[first - BASE :][:length]) == b"inner"
    assert (second, minus) == (first + 2, MASK64)


def test_store_of_result_number_and_word() -> None:
    tape = Tape()
    target = BASE + 4096
    call = tape.call("getpid")
    word = tape.buffer(struct.pack("<Q", 77))
    tape.store(target, call)
    tape.store(target + 8, -3)
    tape.store(target + 16, int32_at(word, 0))
    machine = Machine(BASE, tape.compile(BASE).ljust(8192, b"\0"), lambda *_: 1234)
    machine.run()
    assert [machine.word(target + 8 * n) for n in range(3)] == [1234, -3 & MASK64, 77]


def test_error_ends_the_tape() -> None:
    tape = Tape()
    tape.call("getpid")
    bad = tape.call("openat", -100, tape.buffer(b"x\0"), 0x42)
    after = tape.call("getppid")
    with pytest.raises(TapeError) as error:
        run(tape, 1, -errno.ENOENT)
    assert error.value.errno == errno.ENOENT
    assert error.value.call is bad
    assert str(error.value) == "[Errno 2] openat(-0x64, buffer, 0x42): No such file or directory"
    assert after.result == 0


def test_error_that_may_be() -> None:
    tape = Tape()
    bad = tape.call("close", 5, may_fail=True)
    after = tape.call("getpid")
    run(tape, -errno.EBADF, 4)
    assert bad.failed
    assert bad.result == -errno.EBADF
    assert after.result == 4


def test_last_error_that_may_be() -> None:
    tape = Tape()
    bad = tape.call("close", 5, may_fail=True)
    run(tape, -errno.EBADF)
    assert bad.failed


def test_addresses_are_no_errors() -> None:
    """mmap may return what is negative as a signed number only within the last page."""
    tape = Tape()
    call = tape.call("mmap")
    run(tape, -4096)
    assert not call.failed


def test_final_record_may_lead_home() -> None:
    tape = Tape()
    tape.call("close", 1)
    machine = Machine(BASE, tape.compile(BASE, HOME), lambda *_: 0)
    machine.run()
    assert machine.went_home


def test_copy_may_be_the_last_record() -> None:
    """A store behind the last call: the tape ends with it, and its results are taken all the same."""
    tape = Tape()
    call = tape.call("getpid")
    target = tape.buffer(8)
    tape.store(BASE + 2 * RECORD_SIZE + target.offset, call)
    run(tape, 99)
    assert call.result == 99
    assert target.unpack("<Q") == (99,)


class Step(NamedTuple):
    """A call to be: numbers, or references to earlier results (negative: so many calls back), or buffers."""

    args: list[int | bytes | tuple[str, int]]
    result: int
    may_fail: bool


ARGUMENTS = st.one_of(
    st.integers(-(1 << 63), (1 << 64) - 1), st.binary(max_size=40), st.tuples(st.just("result"), st.integers(1, 20))
)
STEPS = st.lists(
    st.builds(Step, st.lists(ARGUMENTS, max_size=6), st.integers(-5000, 1 << 47), st.booleans()),
    min_size=1,
    max_size=20,
)


def _written(steps: list[Step]) -> tuple[Tape, list[Call], list[tuple[Buffer, bytes]], list[list[int | bytes]]]:
    """A tape of these steps, its calls, its buffers with what is in them, and what the kernel must see at each call."""
    tape = Tape()
    calls: list[Call] = []
    buffers: list[tuple[Buffer, bytes]] = []
    expected: list[list[int | bytes]] = []
    for step in steps:
        args: list[int | Buffer | Call] = []
        seen: list[int | bytes] = []
        for arg in step.args:
            if isinstance(arg, int):
                args.append(arg)
                seen.append(arg & MASK64)
            elif isinstance(arg, bytes):
                args.append(tape.buffer(arg))
                buffers.append((args[-1], arg))  # type: ignore[arg-type]
                seen.append(arg)
            elif calls:
                back = min(arg[1], len(calls))
                args.append(calls[-back])
                seen.append(steps[len(calls) - back].result & MASK64)
        calls.append(tape.call("getpid", *args, may_fail=step.may_fail))
        expected.append(seen)
    return tape, calls, buffers, expected


@given(STEPS)
def test_any_tape(steps: list[Step]) -> None:
    """What the kernel sees is what was asked for, up to the first error that may not be."""
    tape, calls, buffers, expected = _written(steps)
    made = 0

    def kernel(machine: Machine, _nr: int, args: tuple[int, ...]) -> int:
        nonlocal made
        for value, wanted in zip(args, expected[made], strict=False):
            if isinstance(wanted, bytes):
                assert value % 16 == 0
                assert bytes(machine.memory[value - BASE :][: len(wanted)]) == wanted
            else:
                assert value == wanted
        made += 1
        return steps[made - 1].result

    machine = Machine(BASE, tape.compile(BASE), kernel)
    stopped_at = machine.run()
    fatal = next((n for n, step in enumerate(steps) if -4096 < step.result < 0 and not step.may_fail), None)
    assert len(machine.memory) == tape.size
    if fatal is None:
        tape.load(bytes(machine.memory), stopped_at)
        assert made == len(steps)
    else:
        with pytest.raises(TapeError) as error:
            tape.load(bytes(machine.memory), stopped_at)
        assert error.value.call is calls[fatal]
        assert made == fatal + 1
    assert [call.result for call in calls[:made]] == [step.result for step in steps[:made]]
    if fatal is None:
        assert all(buffer.content == content for buffer, content in buffers)
