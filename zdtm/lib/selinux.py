"""Contexts of SELinux, in the policy that ci/vm gives to guests (ci/vm/policy.conf)."""

from __future__ import annotations

from pathlib import Path

FIRST = "zdtm_u:zdtm_r:zdtm_first_t:s0"
SECOND = "zdtm_u:zdtm_r:zdtm_second_t:s0:c1"
THING = "zdtm_u:object_r:zdtm_thing_t:s0:c0"
"""Of a file or a key."""


def attribute(name: str) -> str:
    """One of this thread's, proc_pid_attr(5): current, exec..."""
    return _file(name).read_text().rstrip("\0\n")


def set_attribute(name: str, context: str) -> None:
    """context: empty for the usual one"""
    _file(name).write_text(context or "\n")


def _file(name: str) -> Path:
    return Path("/proc/thread-self/attr", name)
