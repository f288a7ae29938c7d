"""kcmp: which kernel objects are the same, and few comparisons to find it out."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

from engine.kernel import kcmp as kcmp_module
from engine.kernel.kcmp import (
    EQUAL,
    GREATER,
    KCMP_FILE,
    KCMP_FILES,
    KCMP_FS,
    KCMP_SIGHAND,
    KCMP_VM,
    LESS,
    KobjIds,
    kcmp,
    kcmp_epoll,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.subject import Subject

KINDS = [KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND]


@pytest.fixture
def pipes() -> Iterator[list[int]]:
    """Twenty pipes: forty descriptors, no two of the same description."""
    fds = [fd for _ in range(20) for fd in os.pipe()]
    yield fds
    for fd in fds:
        os.close(fd)


def test_files(pipes: list[int]) -> None:
    pid = os.getpid()
    same = os.dup(pipes[0])
    try:
        assert kcmp(pid, pid, KCMP_FILE, pipes[0], same) == EQUAL
        again = os.open(f"/proc/self/fd/{pipes[0]}", os.O_RDONLY)
        try:
            assert kcmp(pid, pid, KCMP_FILE, pipes[0], again) in (LESS, GREATER)
        finally:
            os.close(again)
    finally:
        os.close(same)
    with pytest.raises(OSError, match="kcmp: Bad file descriptor"):
        kcmp(pid, pid, KCMP_FILE, pipes[0], 99999)


def test_the_order_is_one(pipes: list[int]) -> None:
    pid = os.getpid()
    below = {fd: {other for other in pipes if kcmp(pid, pid, KCMP_FILE, other, fd) == LESS} for fd in pipes}
    assert sorted(len(smaller) for smaller in below.values()) == list(range(len(pipes)))


def test_epoll_targets(pipes: list[int]) -> None:
    pid = os.getpid()
    first, second = pipes[0], pipes[2]
    number = os.dup(first)
    with select.epoll() as poll:
        poll.register(number)
        os.dup2(second, number)  # a second watch under the same number
        poll.register(number)
        at = poll.fileno()
        # Watches under one number stand in the order of their files' addresses: either may be the first.
        equal = [[kcmp_epoll(pid, fd, pid, at, number, index) == EQUAL for index in (0, 1)] for fd in (first, second)]
        assert sorted(equal) == [[False, True], [True, False]]
        with pytest.raises(FileNotFoundError):
            kcmp_epoll(pid, first, pid, at, number, 2)
    os.close(number)


SHARING = """
import _thread
pids = []
for flags in (0, 0x400, 0x200, 0x400 | 0x200):  # CLONE_FILES, CLONE_FS
    pid = check(libc.syscall(56 if os.uname().machine == "x86_64" else 220, flags | 17, 0, 0, 0, 0))
    if not pid:
        wait_for_the_end()
    pids.append(pid)
tell(pids=pids)
"""


def test_numbers(start: Callable[[str], Subject]) -> None:
    subject = start(SHARING)
    tasks = [subject.pid, *subject.facts["pids"]]
    numbers = {}
    for kind in KINDS:
        ids = KobjIds(kind, os.getpid())
        numbers[kind] = [ids.add(pid) for pid in tasks]
        assert ids.add(os.getpid()) == (1, False)
        assert [ids.add(pid) for pid in tasks] == [(number, False) for number, _ in numbers[kind]]
    alone = [(2, True), (3, True), (4, True), (5, True), (6, True)]
    assert numbers[KCMP_VM] == alone
    assert numbers[KCMP_SIGHAND] == alone
    assert numbers[KCMP_FILES] == [(2, True), (3, True), (2, False), (4, True), (2, False)]
    assert numbers[KCMP_FS] == [(2, True), (3, True), (4, True), (2, False), (2, False)]


def test_a_task_that_is_gone() -> None:
    with pytest.raises(ProcessLookupError):
        KobjIds(KCMP_VM, os.getpid()).add(2**22 + 1)


def test_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bisection: with 1000 tasks no more than 10 comparisons each."""
    calls = 0

    def by_number(pid1: int, pid2: int, _kind: int) -> int:
        nonlocal calls
        calls += 1
        scrambled1, scrambled2 = pid1 * 7919 % 1009, pid2 * 7919 % 1009
        return EQUAL if scrambled1 == scrambled2 else LESS if scrambled1 < scrambled2 else GREATER

    monkeypatch.setattr(kcmp_module, "kcmp", by_number)
    ids = KobjIds(KCMP_VM, 1)
    assert [ids.add(pid) for pid in range(2, 1001)] == [(number, True) for number in range(2, 1001)]
    assert calls <= 1000 * 10
