"""aarch64 registers: from regsets into images and back, with a pretended tracee."""

from __future__ import annotations

import errno
import os
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.dump_context import DumpContext
from engine.errors import Problems
from engine.images.schema import message
from engine.kernel import ptrace
from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
from engine.tape.arch import aarch64 as arch
from engine.task import cpu_state_aarch64 as cpu

Message = Any

NT_SVE, NT_PACA_KEYS, NT_PACG_KEYS, NT_TAGS = 0x405, 0x407, 0x408, 0x409
NT_PAC_ENABLED_KEYS, NT_SSVE, NT_ZA, NT_GCS = 0x40A, 0x40B, 0x40C, 0x410


class FakeTracee:
    """A thread that is nothing but its register sets. Those it does not have are unknown to its kernel."""

    def __init__(self, regsets: dict[int, bytes]) -> None:
        self.regsets = regsets

    def regset(self, note: int) -> bytes:
        if note not in self.regsets:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return self.regsets[note]

    def set_regset(self, note: int, content: bytes) -> None:
        known = self.regset(note)
        assert len(content) <= len(known)
        self.regsets[note] = content + known[len(content) :]


def regsets(**more: bytes) -> dict[int, bytes]:
    """Different values everywhere; pstate is user mode with all condition flags."""
    general = struct.pack("<34Q", *(0x1111 * n for n in range(33)), 0xF0000000)
    vectors = struct.pack("<64QII8x", *(0x10001 * n for n in range(64)), 0x1F, 0x400000)
    found = {
        ptrace.NT_PRSTATUS: general,
        ptrace.NT_ARM_TLS: struct.pack("<QQ", 0xFFFF8000, 0),
        ptrace.NT_PRFPREG: vectors,
    }
    return found | {globals()[f"NT_{name}"]: content for name, content in more.items()}


def pac_regsets() -> dict[int, bytes]:
    return regsets(
        PACA_KEYS=struct.pack("<8Q", *range(0xA1, 0xA9)),
        PACG_KEYS=struct.pack("<2Q", 0xB1, 0xB2),
        PAC_ENABLED_KEYS=struct.pack("<Q", 0xF),
    )


def sve(length: int, flags: int = 1, live: int | None = None) -> bytes:
    """NT_ARM_SVE of a thread with vectors of so many bytes. live: offset of a byte behind the header that is not 0."""
    content = bytearray(32 * length + 17 * length // 8 + 16)
    for n in range(32):
        content[n * length : n * length + 16] = bytes([n + 1]) * 16
    if live is not None:
        content[live] = 7
    return struct.pack("<IIHHHH", 16 + len(content), 16 + len(content), length, 64, flags, 0) + bytes(content)


def dump(found: dict[int, bytes], monkeypatch: pytest.MonkeyPatch, own_length: int = 32) -> tuple[Message, list[str]]:
    """(the core, problems)."""
    monkeypatch.setattr(arch, "vector_length", lambda: own_length)
    return collect(FakeTracee(found))


def collect(tracee: FakeTracee) -> tuple[Message, list[str]]:
    class FakeTask:
        pid = 77

    class FakeThread:
        tid = 78
        task = FakeTask()

    ctx = DumpContext.__new__(DumpContext)
    ctx.problems = Problems()
    thread: Any = FakeThread()
    thread.tracee = tracee
    core = message("core_entry")()
    core.mtype = cpu.MARCH
    cpu.collect_thread(ctx, thread, core)
    return core, ctx.problems.reasons


def restored(core: Message, tracee: FakeTracee) -> RestoredThread:
    class FakeStub:
        pass

    thread = RestoredThread(78, core)
    stub: Any = FakeStub()
    stub.tracee = tracee
    thread.stub = stub
    return thread


def check(core: Message) -> list[str]:
    ctx = RestoreContext.__new__(RestoreContext)
    ctx.problems = Problems()
    cpu.check(restored(core, FakeTracee({})), RestoredTask(77, 77, 77, None), ctx)
    return ctx.problems.reasons


def test_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    core, problems = dump(regsets(), monkeypatch)
    assert not problems
    info = core.ti_aarch64
    assert list(info.gpregs.regs) == [0x1111 * n for n in range(31)]
    assert (info.gpregs.sp, info.gpregs.pc, info.gpregs.pstate) == (0x1111 * 31, 0x1111 * 32, 0xF0000000)
    assert info.tls == 0xFFFF8000
    assert list(info.fpsimd.vregs) == [0x10001 * n for n in range(64)]
    assert (info.fpsimd.fpsr, info.fpsimd.fpcr) == (0x1F, 0x400000)
    assert not info.HasField("pac_keys")
    assert core.SerializeToString()
    assert check(core) == []


def test_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    core, problems = dump(pac_regsets(), monkeypatch)
    assert not problems
    keys = core.ti_aarch64.pac_keys
    assert (keys.pac_address_keys.apiakey_lo, keys.pac_address_keys.apdbkey_hi) == (0xA1, 0xA8)
    assert keys.pac_address_keys.pac_enabled_key == 0xF
    assert (keys.pac_generic_keys.apgakey_lo, keys.pac_generic_keys.apgakey_hi) == (0xB1, 0xB2)


@given(st.data())
def test_round_trip(data: st.DataObject) -> None:
    """What is collected from one thread and restored into another makes the two equal."""
    sizes = {note: len(content) for note, content in pac_regsets().items()}
    before = {note: data.draw(st.binary(min_size=size, max_size=size)) for note, size in sizes.items()}
    for note, used in ((ptrace.NT_PRFPREG, 520), (ptrace.NT_ARM_TLS, 8)):
        before[note] = before[note][:used].ljust(sizes[note], b"\0")
    core, _ = collect(FakeTracee(before))
    core.ParseFromString(core.SerializeToString())
    tracee = FakeTracee({note: bytes(size) for note, size in sizes.items()})
    thread = restored(core, tracee)
    cpu.restore_extended(thread)
    tracee.set_regset(ptrace.NT_PRSTATUS, arch.pack(cpu.final_registers(thread)))
    assert tracee.regsets == before


def test_instruction_pointer(monkeypatch: pytest.MonkeyPatch) -> None:
    core, _ = dump(regsets(), monkeypatch)
    assert cpu.ip(core) == 0x1111 * 32
    cpu.set_ip(core, 0x4242)
    assert core.ti_aarch64.gpregs.pc == 0x4242


def test_thread_without_keys_leaves_those_of_the_stub(monkeypatch: pytest.MonkeyPatch) -> None:
    core, _ = dump(regsets(), monkeypatch)
    tracee = FakeTracee(pac_regsets())
    cpu.restore_extended(restored(core, tracee))
    assert tracee.regsets == pac_regsets()


@pytest.mark.parametrize("length", [16, 32, 64, 256])
def test_vectors_after_a_system_call(monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    """SVE in use, but nothing in it beyond the FPSIMD registers; or those in its place."""
    for content in (sve(length), sve(length, flags=0)):
        assert dump(regsets(SVE=content), monkeypatch, length)[1] == []


@pytest.mark.parametrize("live", [16, 63, 31 * 32 + 31, 32 * 32, 32 * 32 + 67])
def test_live_vectors(monkeypatch: pytest.MonkeyPatch, live: int) -> None:
    """Beyond the FPSIMD part of Z0, Z1, Z31; in P0; in FFR, the last."""
    before = sve(32, live=live)
    core, problems = dump(regsets(SVE=before + bytes(100)), monkeypatch)
    assert problems == check(core) == []
    tracee = FakeTracee(regsets(SVE=bytes(len(before))))
    cpu.restore_extended(restored(core, tracee))
    assert tracee.regsets[NT_SVE] == before


def test_live_vectors_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    core, _ = dump(regsets(SVE=sve(32, live=16)), monkeypatch)
    monkeypatch.setattr(arch, "vector_length", lambda: 16)
    assert check(core) == [
        "task 77: core-78.img: has vectors of 32 bytes, here they have 16 (restore it where they are as long)"
    ]


@pytest.mark.parametrize("damage", [b"", b"short", sve(32)[:-1], sve(32, flags=0), sve(512), sve(32)[:40]])
def test_damaged_vectors(monkeypatch: pytest.MonkeyPatch, damage: bytes) -> None:
    core, _ = dump(regsets(SVE=sve(32, live=16)), monkeypatch)
    core.ti_aarch64.sve = damage
    (problem,) = check(core)
    assert "no vector registers (the image is damaged)" in problem


def test_live_vectors_that_are_too_long_for_the_way_home(monkeypatch: pytest.MonkeyPatch) -> None:
    _, problems = dump(regsets(SVE=sve(128, live=16)), monkeypatch, own_length=128)
    assert problems == ["task 77: thread 78 has live vectors of 128 bytes (let it make a system call)"]


def test_vector_length_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    _, problems = dump(regsets(SVE=sve(32)), monkeypatch, own_length=64)
    assert len(problems) == 1
    assert "vector length of its own" in problems[0]


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"SSVE": sve(32)}, "SME registers"),
        ({"ZA": struct.pack("<IIHHHH", 1040, 1040, 32, 32, 0, 0) + bytes(1024)}, "SME registers"),
        ({"TAGS": struct.pack("<Q", 1)}, "tagged addresses"),
        ({"GCS": struct.pack("<3Q", 1, 0, 0x1000)}, "guarded control stack"),
    ],
)
def test_what_images_do_not_hold(monkeypatch: pytest.MonkeyPatch, more: dict[str, bytes], text: str) -> None:
    _, problems = dump(regsets(**more), monkeypatch)
    assert len(problems) == 1
    assert text in problems[0]


def test_what_is_there_but_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    unused = {
        "SSVE": sve(32, flags=0),
        "ZA": struct.pack("<IIHHHH", 16, 1040, 32, 32, 0, 0),
        "TAGS": bytes(8),
        "GCS": struct.pack("<3Q", 0, 1, 0),
    }
    assert dump(regsets(**unused), monkeypatch)[1] == []


def test_damaged_images(monkeypatch: pytest.MonkeyPatch) -> None:
    core, _ = dump(regsets(), monkeypatch)
    core.ti_aarch64.gpregs.regs.append(1)
    core.ti_aarch64.gpregs.pstate = 0x5
    first, second = check(core)
    assert "32 general" in first
    assert "not that of 64-bit user mode" in second


def test_keys_without_pointer_authentication(monkeypatch: pytest.MonkeyPatch) -> None:
    core, _ = dump(pac_regsets(), monkeypatch)
    monkeypatch.setattr(cpu, "_has_pointer_authentication", lambda: False)
    (problem,) = check(core)
    assert "signed by keys" in problem
    monkeypatch.setattr(cpu, "_has_pointer_authentication", lambda: True)
    assert check(core) == []
