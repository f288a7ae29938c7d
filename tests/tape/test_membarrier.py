"""What a task has registered for with membarrier(2), asked of kernels that tell it and of those that don't."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.kernel.libc import NR
from engine.tape.tape import Tape
from engine.task import personality
from tests.tape.tracing import visiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.tape.conftest import Guest

GET_REGISTRATIONS = 1 << 9
REGISTER_PRIVATE, REGISTER_SYNC_CORE = 1 << 4, 1 << 6
COMMANDS = personality.membarrier_commands()


@pytest.mark.parametrize("wanted", [0, REGISTER_PRIVATE, REGISTER_PRIVATE | REGISTER_SYNC_CORE])
@pytest.mark.parametrize("tells", [False, True] if COMMANDS & GET_REGISTRATIONS else [False])
def test_registrations(
    start: Callable[[str], Guest], wanted: int, tells: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = COMMANDS if tells else COMMANDS & ~GET_REGISTRATIONS
    monkeypatch.setattr(personality, "membarrier_commands", lambda: known)
    registering = [command for command in (REGISTER_PRIVATE, REGISTER_SYNC_CORE) if wanted & command]
    subject = start(f"for command in {registering}: libc.syscall({NR['membarrier']}, command, 0, 0)\ntell()")
    with visiting(subject.pid) as visit:
        tape = Tape()
        registrations = personality._ask_membarrier(tape)
        visit.run(tape)
    assert registrations() == wanted
