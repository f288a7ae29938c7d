"""Rings of kernel aio: their size, and the wait for requests in flight."""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, cast

import pytest

from engine.kernel.libc import NR, syscall
from engine.task import aio

if TYPE_CHECKING:
    from engine.dump_context import DumpContext

_NO_CONTEXT = cast("DumpContext", None)


@pytest.mark.parametrize("requests", [1, 62, 63, 64, 1000, 1022, 1023, 5000])
def test_size_of_a_ring_is_the_kernels(requests: int) -> None:
    context = ctypes.c_uint64()
    syscall(NR["io_setup"], requests, ctypes.byref(context))
    try:
        with open("/proc/self/maps") as maps:
            spans = re.findall(rf"^({context.value:x})-(\w+) .*/\[aio\]", maps.read(), re.MULTILINE)
        ((start, end),) = spans
        size = int(end, 16) - int(start, 16)
        assert aio._ring_size(requests) == size
        assert aio._ring_size((aio._events_of(size) - 2) // 2) == size
    finally:
        syscall(NR["io_destroy"], context.value)


def test_dump_waits_for_pins(monkeypatch: pytest.MonkeyPatch) -> None:
    left = [3, 2, 1, 0]
    monkeypatch.setattr(aio._Pins, "_count", staticmethod(lambda: left.pop(0)))
    aio._Pins(_NO_CONTEXT)
    assert not left


def test_dump_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "_QUIET_SECONDS", 0.01)
    monkeypatch.setattr(aio._Pins, "_count", staticmethod(lambda: 1))
    aio._Pins(_NO_CONTEXT)
