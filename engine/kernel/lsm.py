"""Labels of Linux security modules in /proc/PID/attr (proc_pid_attr(5)): which module gives them, and what they say.

Modules that have no labels, as Landlock or Yama, do not matter here.
"""

from __future__ import annotations

import errno
import os

NONE, SELINUX, APPARMOR = 0, 1, 2
"""The numbers that images have for them."""
NAMES = {SELINUX: "selinux", APPARMOR: "apparmor"}
_UNCONFINED = "unconfined"


def active(root: str = "/") -> int:
    """The module whose labels the tasks of this system have."""
    if os.path.exists(os.path.join(root, "sys/kernel/security/apparmor/profiles")):
        return APPARMOR
    if os.path.exists(os.path.join(root, "sys/fs/selinux/enforce")):
        return SELINUX
    return NONE


def label(kind: int, pid: int, tid: int, root: str = "/") -> str:
    """The label of a thread, as it is to be written again; empty for one that no profile confines."""
    if kind == NONE:
        return ""
    text = _read(root, pid, tid, "apparmor/current") if kind == APPARMOR else ""
    text = text or _read(root, pid, tid, "current")
    if kind == SELINUX:
        return text
    profile = text.rpartition(" (")[0] or text
    return "" if profile == _UNCONFINED else profile


def socket_label(kind: int, pid: int, tid: int, root: str = "/") -> str:
    """The label that SELinux gives to new sockets of a thread; empty for its usual one."""
    return _read(root, pid, tid, "sockcreate") if kind == SELINUX else ""


def _read(root: str, pid: int, tid: int, name: str) -> str:
    try:
        with open(os.path.join(root, f"proc/{pid}/task/{tid}/attr/{name}"), "rb") as file:
            return os.fsdecode(file.read().rstrip(b"\n\0"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return ""
        raise
