"""What numbers and strings in images can be.

protobuf knows neither user ids nor file offsets nor ints of 31 bits. A restore compares every entry with this table as
it reads it, so that no other code meets a number which the kernel's types can't hold. What is possible but wrong is for
the kernel, or for the code that knows the object, to refuse.
"""

from __future__ import annotations

from functools import cache

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    Bounds: TypeAlias = tuple[int, int]

_INT = (0, (1 << 31) - 1)
_ID = (0, (1 << 32) - 2)
"""uid_t and gid_t: the highest is "none" to the system calls."""
_PID = (0, 1 << 22)
_OFFSET = (0, (1 << 63) - 4096)
_SHORT = (0, (1 << 16) - 1)
_SIGNAL = (0, 64)
_SECONDS = (0, 1 << 33)
"""Of what the kernel's 63 bits of nanoseconds hold."""
_MICROSECONDS = (0, 999_999)

_BOUNDS: dict[str, dict[str, Bounds]] = {
    "creds_entry": dict.fromkeys("uid gid euid egid suid sgid fsuid fsgid".split(), _ID),
    "eventpoll_tfd_entry": {"tfd": _INT, "watched_as": _INT},
    "file_lock_entry": {"type": _INT},
    "file_perms_entry": {"uid": _ID, "gid": _ID},
    "fown_entry": {"uid": _ID, "euid": _ID, "pid": _PID, "pid_type": (0, 2), "signum": _SIGNAL},
    "ghost_chunk_entry": {"len": _OFFSET, "off": _OFFSET},
    "ghost_file_entry": {"uid": _ID, "gid": _ID, "size": _OFFSET},
    "memfd_file_entry": {"pos": _OFFSET},
    "memfd_inode_entry": {"uid": _ID, "gid": _ID, "size": _OFFSET, "seals": _INT},
    "pipe_data_entry": {"size": _INT},
    "posix_timer_entry": {"si_signo": _SIGNAL, "it_sigev_notify": _INT},
    "sk_opts_entry": {
        "so_sndbuf": _INT,
        "so_rcvbuf": _INT,
        "so_snd_tmo_sec": _SECONDS,
        "so_snd_tmo_usec": _MICROSECONDS,
        "so_rcv_tmo_sec": _SECONDS,
        "so_rcv_tmo_usec": _MICROSECONDS,
        "so_linger": _INT,
    },
    "task_core_entry": {"exit_code": _SHORT, "oom_score_adj": (-1000, 1000), "stop_signo": _SIGNAL},
    "termios_entry": {"c_line": (0, 255)},
    "thread_core_entry": {"pdeath_sig": _SIGNAL, "sched_nice": (-20, 19), "sched_prio": (0, 99)},
    "timerfd_entry": {"clockid": _INT, "settime_flags": _INT},
    "timeval": {"tv_usec": _MICROSECONDS},
    "tty_info_entry": {"sid": _PID, "pgrp": _PID, "uid": _ID, "gid": _ID},
    "tty_pty_entry": {"index": _INT},
    "ucred_entry": {"pid": _PID, "uid": _ID, "gid": _ID},
    "unix_sk_entry": {"backlog": _INT, "uid": _ID, "gid": _ID},

    "user_x86_fpregs_entry": dict.fromkeys("cwd swd twd fop".split(), _SHORT),
    "vma_entry": {"fdflags": _INT},
    "winsize_entry": dict.fromkeys("ws_row ws_col ws_xpixel ws_ypixel".split(), _SHORT),
}
"""message: field: (lowest, highest)."""

_OPEN_FILES = (
    "bpfmap_file eventfd_file eventpoll_file ext_file fanotify_file inet_sk inotify_file memfd_file netlink_sk ns_file"
    " packet_sock pidfd pipe reg_file signalfd timerfd tty_file unix_sk"
).split()
for _name in _OPEN_FILES:
    _BOUNDS.setdefault(f"{_name}_entry", {})["flags"] = _INT

_LENGTHS: dict[str, dict[str, int]] = {
    "creds_entry": {"groups": 1 << 16, **dict.fromkeys("cap_inh cap_prm cap_eff cap_bnd cap_amb".split(), 2)},
}
"""message: repeated field: how many there can be."""


def problem(entry: Any) -> str | None:
    """What is impossible about an entry or what is in it; None: nothing."""
    name = entry.DESCRIPTOR.name
    bounds = _BOUNDS.get(name, {})
    lengths = _LENGTHS.get(name, {})
    for field, value in entry.ListFields():
        if field.name in bounds:
            low, high = bounds[field.name]
            if not low <= value <= high:
                return f"{name}.{field.name} is {value}, possible are {low} to {high}"
        elif field.name in lengths and len(value) > lengths[field.name]:
            return f"{name}.{field.name} has {len(value)} items, possible are {lengths[field.name]}"
        elif field.type == field.TYPE_STRING:
            if any(_has_nul(text) for text in _listed(field, value)):
                return f"{name}.{field.name} has a NUL in it"
        elif field.message_type is not None and _matters(field.message_type):
            for part in _listed(field, value):
                if why := problem(part):
                    return why
    return None


def _listed(field: Any, value: Any) -> Any:
    return value if field.is_repeated else (value,)


def _has_nul(text: str | bytes) -> bool:
    """No string of the kernel has one. What is no UTF-8 comes as bytes."""
    return "\0" in text if isinstance(text, str) else b"\0" in text


@cache
def _matters(descriptor: Any) -> bool:
    """Whether anything in such a message has bounds. Directories of control groups contain themselves."""
    seen, waiting = set(), [descriptor]
    while waiting:
        found = waiting.pop()
        if found.name in _BOUNDS or found.name in _LENGTHS:
            return True
        if found.full_name not in seen:
            seen.add(found.full_name)
            waiting += [field.message_type for field in found.fields if field.message_type is not None]
            if any(field.type == field.TYPE_STRING for field in found.fields):
                return True
    return False
