"""Huge pages for the programs that want some.

The pool of them is empty on most machines. It is left alone; but while the suite runs the kernel may add pages to it as
they are asked for, and takes them back (nr_overcommit_hugepages, Documentation/admin-guide/mm/hugetlbpage.rst).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

_MORE = Path("/proc/sys/vm/nr_overcommit_hugepages")
_ENOUGH = 64


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """In the process that leads, whose workers come and go."""
    with contextlib.nullcontext() if hasattr(session.config, "workerinput") else _more_at_need():
        return (yield)


@contextlib.contextmanager
def _more_at_need() -> Iterator[None]:
    before = ""
    with contextlib.suppress(OSError):  # there are none, or they are not ours to ask for: needs.py says so
        before = _MORE.read_text()
        _MORE.write_text(str(max(_ENOUGH, int(before))))
    try:
        yield
    finally:
        if before:
            with contextlib.suppress(OSError):
                _MORE.write_text(before)
