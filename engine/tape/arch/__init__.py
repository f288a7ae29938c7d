"""One module an architecture; `current()` is the one this engine runs on."""

from __future__ import annotations

import importlib
import os
from functools import cache
from typing import Any

from engine.errors import CrError

PAGE = 4096


@cache
def current() -> Any:
    """The architecture module of this machine: x86_64.py or aarch64.py."""
    machine = os.uname().machine
    if machine not in ("x86_64", "aarch64"):
        raise CrError(f"architecture {machine} is not supported: x86_64 and aarch64 are")
    page = os.sysconf("SC_PAGESIZE")
    if page != PAGE:
        raise CrError(f"pages of {page} bytes are not supported (run a kernel with pages of {PAGE} bytes)")
    return importlib.import_module(f"engine.tape.arch.{machine}")
