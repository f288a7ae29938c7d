"""What a probed page differs in from its file."""

from __future__ import annotations

import platform

import pytest

from engine.task.uprobes import differs_in_breakpoints

_BREAKPOINT = {"x86_64": b"\xcc", "aarch64": bytes.fromhex("a00020d4")}[platform.machine()]
_FILE = bytes(range(256)) * 16
_NOP = bytes.fromhex("0f1f440000")


def _with(page: bytes, at: int, content: bytes) -> bytes:
    return page[:at] + content + page[at + len(content) :]


def test_breakpoints_alone() -> None:
    once = _with(_FILE, 256, _BREAKPOINT)
    assert differs_in_breakpoints(once, _FILE)
    assert differs_in_breakpoints(_with(once, 4096 - len(_BREAKPOINT), _BREAKPOINT), _FILE)


def test_other_changes() -> None:
    assert not differs_in_breakpoints(_FILE, _FILE)
    assert not differs_in_breakpoints(_with(_FILE, 256, b"\x90" * 4), _FILE)
    assert not differs_in_breakpoints(_with(_with(_FILE, 256, _BREAKPOINT), 512, b"\x90"), _FILE)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86 has such a nop")
def test_nop_that_became_a_call() -> None:
    file = _with(_FILE, 512, _NOP)
    assert differs_in_breakpoints(_with(file, 512, b"\xe8\x01\x02\x03\x04"), file)
    assert not differs_in_breakpoints(_with(_FILE, 512, b"\xe8\x01\x02\x03\x04"), _FILE)
