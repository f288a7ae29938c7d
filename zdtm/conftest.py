"""Makes `pytest zdtm` run the programs. The hooks are imported here because pytest takes `pytest_plugins` only from
a conftest.py at the top."""

from __future__ import annotations

from zdtm.harness.huge_pages import pytest_runtestloop
from zdtm.harness.plugin import (
    pytest_addoption,
    pytest_collect_file,
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_terminal_summary,
    pytest_unconfigure,
)

__all__ = [
    "pytest_addoption",
    "pytest_collect_file",
    "pytest_collection_modifyitems",
    "pytest_configure",
    "pytest_runtestloop",
    "pytest_terminal_summary",
    "pytest_unconfigure",
]
