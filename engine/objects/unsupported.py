"""What no other kind has recognised: refused, by the name users know it by."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from engine.objects.base import FileKind
from engine.objects.ext_file import take

if TYPE_CHECKING:
    from engine.dump_context import DumpContext
    from engine.objects.base import OpenFile

_CLOSE = "close it before the dump"
_ANONYMOUS = {
    "[io_uring]": "an io_uring instance",
    "[userfaultfd]": "a userfaultfd",
    "[perf_event]": "a perf event",
    "[fanotify]": "an fanotify group",
    "bpf-prog": "a BPF program",
    "bpf_link": "a BPF link",
    "[seccomp notify]": "the listener of a seccomp filter",
    "[landlock-ruleset]": "a Landlock ruleset",
    "[fscontext]": "a file system in the making (fsopen)",
    "[mountfd]": "a mount file descriptor",
    "kvm-vm": "a KVM virtual machine",
    "kvm-vcpu": "a KVM virtual processor",
    "sync_file": "a sync file",
}
_FAMILIES = {
    1: "unix", 2: "TCP/IP", 10: "TCP/IPv6", 16: "netlink", 17: "packet", 38: "kernel crypto", 40: "vsock", 44: "XDP",
}  # fmt: skip
_INET = (2, 10)
_SOL_SOCKET, _SO_PROTOCOL, _SO_DOMAIN = 1, 38, 39
_IPPROTO_MPTCP = 262


class Unsupported(FileKind):
    """The end of the list of kinds."""

    type = 0
    field = ""
    has_fown = False

    def recognise(self, file: OpenFile) -> bool:
        return True

    def refuse(self, file: OpenFile, ctx: DumpContext) -> None:
        if not take(file, ctx):
            ctx.problems.add(f"{file}: {_what(file)} can't be dumped", file.task.pid, _CLOSE)


UNSUPPORTED = Unsupported()


def _what(file: OpenFile) -> str:
    kind, colon, name = file.link.partition(":")
    if file.flags & os.O_PATH:
        return "an O_PATH descriptor of a file without a name"
    if stat.S_ISSOCK(file.stat.st_mode):
        return f"a socket of family {_family(file.copy)}"
    if kind == "anon_inode" and colon:
        return _ANONYMOUS.get(name, f"an object of the kernel called {name}")
    return "a file of this kind"


def _family(fd: int) -> str:
    import socket

    with socket.socket(fileno=os.dup(fd)) as own:
        number = own.getsockopt(_SOL_SOCKET, _SO_DOMAIN)
        protocol = own.getsockopt(_SOL_SOCKET, _SO_PROTOCOL)
    family = _FAMILIES.get(number, str(number))
    return f"{family} (MPTCP)" if number in _INET and protocol == _IPPROTO_MPTCP else family
