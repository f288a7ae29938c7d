"""Registers of both architectures: layout, and what becomes of a system call that was interrupted."""

from __future__ import annotations

import ctypes
import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.kernel import sve
from engine.tape import arch as architectures
from engine.tape.arch import aarch64, x86_64

MAX = (1 << 64) - 1
WORDS = {"x86_64": 27, "aarch64": 34}
ARCHITECTURES = pytest.mark.parametrize("arch", [x86_64, aarch64], ids=["x86_64", "aarch64"])
RESTARTS = (512, 513, 514)  # ERESTARTSYS, ERESTARTNOINTR, ERESTARTNOHAND
RESTART_BLOCK = 516
RESTART_SYSCALL = 219
POLL = 7


@ARCHITECTURES
@given(data=st.data())
def test_round_trip(arch: Any, data: st.DataObject) -> None:
    words = data.draw(st.lists(st.integers(0, MAX), min_size=WORDS[arch.NAME], max_size=WORDS[arch.NAME]))
    content = struct.pack(f"<{len(words)}Q", *words)
    assert arch.pack(arch.unpack(content)) == content


def test_order_x86_64() -> None:
    """struct user_regs_struct, sys/user.h."""
    registers = x86_64.unpack(struct.pack("<27Q", *range(27)))
    assert (registers["r15"], registers["bx"], registers["ax"], registers["di"]) == (0, 5, 10, 14)
    assert (registers["orig_ax"], registers["ip"], registers["sp"], registers["gs"]) == (15, 16, 19, 26)


def test_order_aarch64() -> None:
    """struct user_pt_regs, asm/ptrace.h."""
    registers = aarch64.unpack(struct.pack("<34Q", *range(34)))
    assert (registers["x0"], registers["x30"], registers["sp"]) == (0, 30, 31)
    assert (registers["pc"], registers["pstate"]) == (32, 33)


@ARCHITECTURES
def test_call(arch: Any) -> None:
    """Number, arguments (negative ones too) and place of a system call; everything else stays."""
    before = {name: 100 + n for n, name in enumerate(arch.unpack(bytes(8 * WORDS[arch.NAME])))}
    after = arch.calling(before, 0x4000, 9, 1, -1, 3, 4, 5, 6)
    names = {
        "x86_64": ("ip", "ax", "di", "si", "dx", "r10", "r8", "r9"),
        "aarch64": ("pc", "x8", "x0", "x1", "x2", "x3", "x4", "x5"),
    }[arch.NAME]
    assert [after[name] for name in names] == [0x4000, 9, 1, MAX, 3, 4, 5, 6]
    untouched = set(before) - {*names, "orig_ax"}
    assert all(after[name] == before[name] for name in untouched)
    assert before["sp"] == after["sp"]


def test_branch_target_checks_do_not_see_us() -> None:
    """A thread that has just branched must land on a landing pad; our code is none. At home it must again."""
    before = dict(aarch64.unpack(bytes(8 * 34)), pstate=0xF0000C00)
    assert aarch64.calling(before, 0x4000, 9)["pstate"] == 0xF0000000
    assert aarch64.interpreting(before, 0x4000, 0x5000, 3, 0x6000)["pstate"] == 0xF0000000
    assert aarch64.for_home(before)["pstate"] == 0xF0000C00


@ARCHITECTURES
@pytest.mark.parametrize(("raw", "result"), [(0, 0), (5, 5), (-2 & MAX, -2), (1 << 63, -(1 << 63))])
def test_result(arch: Any, raw: int, result: int) -> None:
    registers = arch.unpack(bytes(8 * WORDS[arch.NAME]))
    registers["ax" if arch is x86_64 else "x0"] = raw
    assert arch.syscall_result(registers) == result


def _stopped(error: int, nr: int = POLL) -> dict[str, int]:
    registers = x86_64.unpack(bytes(8 * 27))
    return dict(registers, ip=0x1002, orig_ax=nr, ax=-error & MAX)


@pytest.mark.parametrize("error", RESTARTS)
@pytest.mark.parametrize("made", [x86_64.for_image, x86_64.for_home], ids=["image", "home"])
def test_interrupted_call_starts_again(made: Any, error: int) -> None:
    registers = made(_stopped(error))
    assert (registers["ip"], registers["ax"]) == (0x1000, POLL)


def test_restart_block_is_lost_in_an_image() -> None:
    registers = x86_64.for_image(_stopped(RESTART_BLOCK))
    assert (registers["ip"], registers["ax"]) == (0x1002, -errno.EINTR & MAX)


def test_restart_block_is_kept_at_home() -> None:
    registers = x86_64.for_home(_stopped(RESTART_BLOCK))
    assert (registers["ip"], registers["ax"]) == (0x1000, RESTART_SYSCALL)


@pytest.mark.parametrize("made", [x86_64.for_image, x86_64.for_home], ids=["image", "home"])
@pytest.mark.parametrize("error", [*RESTARTS, RESTART_BLOCK, errno.EINTR, 0])
def test_no_call_is_none_to_restart(made: Any, error: int) -> None:
    """orig_ax -1: in user mode, whatever ax looks like. The same for a call that has an ordinary result."""
    outside = dict(_stopped(error), orig_ax=MAX)
    assert made(outside) == outside
    if error in (errno.EINTR, 0):
        assert made(_stopped(error)) == _stopped(error)


def test_way_home_of_x86_64_carries_flags() -> None:
    """The table has OF and the low byte of the flags, where `add` and `sahf` take them from."""
    registers = dict(x86_64.unpack(bytes(8 * 27)), flags=1 << 11 | 0x8D5, ip=0x1234, bx=0xB0B)
    [(_, code)] = x86_64.way_home(registers, 0xFEDC, 0x10000, 0x2000, x86_64.Vectors(), 0x7000)
    table = code[len(x86_64.INTERPRETER) :]
    scratch, length, mask, overflow, flags = struct.unpack_from("<QQQBB", table)
    assert (scratch, length, mask, overflow, flags) == (0x10000, 0x2000, 0xFEDC, 1, 0xD5)
    assert struct.unpack_from("<Q", table, 72) == (0xB0B,)
    assert struct.unpack_from("<Q", table, 160) == (0x1234,)


@pytest.mark.parametrize("length", [0, 32, 64])
def test_way_home_of_aarch64_is_a_signal_frame(length: int) -> None:
    """As rt_sigreturn(2) reads it: mask, registers, the floating-point record and that of vectors, if they are live,
    where asm/sigcontext.h has them."""
    registers = {name: 0x10100 + n for n, name in enumerate(aarch64.unpack(bytes(8 * 34)))}
    fpsimd = bytes(range(256)) * 2
    scalable = (b"Z" * 32 + b"P" * 2 + b"F" * 2) * length
    scalable = scalable[: 32 * length + 17 * length // 8]
    regset = sve.HEADER.pack(32 + len(scalable), 0, length, length, 1, 0) + scalable + bytes(16) if length else b""
    vectors = aarch64.Vectors(struct.pack("<512sII8x", fpsimd, 0x11, 0x22), regset)
    [(_, code), *elsewhere] = aarch64.way_home(registers, 0xFEDC, 0x10000, 0x2000, vectors, 0x7000)
    scratch, mapped, offset, _ = struct.unpack_from("<QQqQ", code, len(aarch64.INTERPRETER))
    assert (scratch, mapped) == (0x10000, 0x2000)
    at = 0x7000 + len(aarch64.INTERPRETER) + offset
    if length:
        [(below, frame)] = elsewhere
        assert below == at
        assert below % 16 == 0
        assert registers["sp"] - 16 < below + len(frame) <= registers["sp"]
    else:
        frame = code[at - 0x7000 :]
    ucontext = 128
    mcontext = ucontext + 176
    assert struct.unpack_from("<Q", frame, ucontext + 40) == (0xFEDC,)
    assert struct.unpack_from("<34Q", frame, mcontext + 8) == tuple(registers.values())
    reserved = mcontext + 288
    assert struct.unpack_from("<IIII", frame, reserved) == (0x46508001, 528, 0x11, 0x22)
    assert frame[reserved + 16 : reserved + 528] == fpsimd
    after = frame[reserved + 528 :]
    if length:
        magic, size, vector_length, flags = struct.unpack_from("<IIHH", after)
        assert (magic, size % 16, vector_length, flags) == (0x53564501, 0, length, 0)
        assert after[16:size].rstrip(b"\0") == scalable.rstrip(b"\0")
        after = after[size:]
    assert after == bytes(16)
    assert len(frame) - reserved <= 4096


def test_task_size() -> None:
    """No mapping of this process lies outside, and nothing beyond can be mapped."""
    arch = architectures.current()
    with open("/proc/self/maps") as maps:
        ends = [int(line.split("-")[1].split()[0], 16) for line in maps if "vsyscall" not in line]
    assert max(ends) <= arch.task_size()
    beyond = -(-arch.task_size() // 4096) * 4096
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    assert libc.mmap(ctypes.c_void_p(beyond), ctypes.c_size_t(4096), 3, 0x32, -1, 0) == MAX
    assert ctypes.get_errno() == errno.ENOMEM
