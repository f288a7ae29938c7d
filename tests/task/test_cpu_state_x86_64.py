"""x86_64 registers: images of one CPU, restored on another."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import Problems
from engine.images.schema import message
from engine.restore_context import RestoreContext, RestoredTask, RestoredThread
from engine.task import cpu_state_x86_64 as cpu

PKRU = 9
DEFAULT = 0x55555554


def reasons(monkeypatch: pytest.MonkeyPatch, components: dict[int, tuple[int, int]], pkru: list[int]) -> list[str]:
    """What stands against restoring a thread with this in PKRU on a CPU with these parts of xsave."""
    monkeypatch.setattr(cpu, "xsave_components", lambda: components)
    core: Any = message("core_entry")()
    core.thread_info.gpregs.cs, core.thread_info.gpregs.ss = 0x33, 0x2B
    core.thread_info.fpregs.xsave.xstate_bv = 1 << PKRU
    core.thread_info.fpregs.xsave.pkru.extend(pkru)
    ctx = RestoreContext.__new__(RestoreContext)
    ctx.problems = Problems()
    cpu.check(RestoredThread(78, core), RestoredTask(77, 77, 77, None), ctx)
    return ctx.problems.reasons


def test_protection_keys_that_nobody_used_are_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reasons(monkeypatch, {}, [DEFAULT, 0]) == []


def test_protection_keys_in_use_need_a_cpu_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    (reason,) = reasons(monkeypatch, {}, [DEFAULT & ~0b1100, 0])
    assert "8 bytes of pkru do not fit this CPU" in reason
    assert reasons(monkeypatch, {PKRU: (2440, 8)}, [DEFAULT & ~0b1100, 0]) == []


def test_protection_keys_of_a_wrong_size(monkeypatch: pytest.MonkeyPatch) -> None:
    assert reasons(monkeypatch, {PKRU: (2440, 8)}, [DEFAULT])
