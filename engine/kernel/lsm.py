"""Labels of Linux security modules in /proc/PID/attr (proc_pid_attr(5)): which module gives them, and what they say.

Modules that have no labels, as Landlock or Yama, do not matter here.
"""

from __future__ import annotations

import errno
import os

NONE, SELINUX, APPARMOR = 0, 1, 2
"""The numbers that images have for them."""
NAMES = {SELINUX: "selinux", APPARMOR: "apparmor"}
FUTURE = {NONE: (), SELINUX: ("sockcreate", "exec", "fscreate", "keycreate"), APPARMOR: ("exec",)}
"""What a thread may have said about labels to come: those of its new sockets, files and keys, its own after execve."""
_UNCONFINED = "unconfined"
_SELINUX_FILES = "sys/fs/selinux"


def active(root: str = "/") -> int:
    """The module whose labels the tasks of this system have."""
    if os.path.exists(os.path.join(root, "sys/kernel/security/apparmor/profiles")):
        return APPARMOR
    if os.path.exists(os.path.join(root, _SELINUX_FILES, "enforce")):
        return SELINUX
    return NONE


def label(kind: int, pid: int, tid: int, name: str = "current", root: str = "/") -> str:
    """A label of a thread, as it is to be written again: the one that it has, or one of FUTURE. Empty if no profile
    confines it, or if a label to come is the usual one."""
    if kind == NONE:
        return ""
    text = _read(root, pid, tid, f"apparmor/{name}") if kind == APPARMOR else ""
    text = text or _read(root, pid, tid, name)
    if kind == SELINUX:
        return text
    profile = text.rpartition(" (")[0] or text
    return "" if profile == _UNCONFINED else profile


def way_back(kind: int, pid: int, tid: int, root: str = "/") -> str:
    """The profile that a thread has left for a hat in it and can go back to; empty if it is in none."""
    return label(kind, pid, tid, "prev", root) if kind == APPARMOR else ""


def context_is_known(context: str, root: str = "/") -> bool:
    """Whether the policy that SELinux has now allows for such a context."""
    try:
        fd = os.open(os.path.join(root, _SELINUX_FILES, "context"), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        os.write(fd, os.fsencode(context) + b"\0")
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    finally:
        os.close(fd)
    return True


def set_socket_context(context: str) -> None:
    """What SELinux is to give to new sockets of this thread; empty for the usual one."""
    with open("/proc/thread-self/attr/sockcreate", "wb", buffering=0) as file:
        file.write(os.fsencode(context) or b"\n")


def _read(root: str, pid: int, tid: int, name: str) -> str:
    try:
        with open(os.path.join(root, f"proc/{pid}/task/{tid}/attr/{name}"), "rb") as file:
            return os.fsdecode(file.read().rstrip(b"\n\0"))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EINVAL):
            return ""
        raise
