"""Runs of pages, for those tests that ask which pages a mapping has."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine.kernel import pagemap

if TYPE_CHECKING:
    from engine.kernel.pagemap_scan import PageRun

PAGE = os.sysconf("SC_PAGESIZE")


def needs_scan() -> None:
    if not pagemap.can_scan():
        pytest.skip("the kernel has no PAGEMAP_SCAN")


def pages(runs: list[PageRun], address: int) -> list[int]:
    """Page numbers, counted from address."""
    return [(run.vaddr - address) // PAGE + number for run in runs for number in range(run.nr_pages)]
