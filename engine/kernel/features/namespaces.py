"""Probes for namespaces, and for network devices across them. Source of the numbers: rtnetlink(7), if_link.h."""

from __future__ import annotations

import os
import struct

from engine.kernel.features.child import CLONE_NEWCGROUP, CLONE_NEWNET, CLONE_NEWTIME, CLONE_NEWUSER, in_child
from engine.kernel.features.netlink import (
    NESTED,
    NETLINK_ROUTE,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_EXCL,
    attribute,
    request,
)
from engine.kernel.libc import NR, syscall

_RTM_NEWLINK, _RTM_GETLINK, _RTM_NEWNSID, _RTM_GETNSID = 16, 18, 88, 90
_IFLA_IFNAME, _IFLA_LINKINFO, _IFLA_INFO_KIND, _IFLA_TARGET_NETNSID = 3, 18, 1, 46
_NETNSA_NSID, _NETNSA_FD = 1, 3
_IFINFO = struct.Struct("BxHiII")


def userns() -> bool:
    """User namespaces can be made, with maps to write (Linux 3.8)."""
    return in_child(lambda: os.path.exists("/proc/self/uid_map"), CLONE_NEWUSER)


def cgroupns() -> bool:
    """Cgroup namespaces (Linux 4.6)."""
    return in_child(lambda: os.path.exists("/proc/self/ns/cgroup"), CLONE_NEWCGROUP)


def timens() -> bool:
    """Time namespaces whose clocks can be set (Linux 5.6)."""
    return in_child(_clocks_can_be_set, CLONE_NEWTIME)


def _clocks_can_be_set() -> bool:
    fd = os.open("/proc/self/timens_offsets", os.O_WRONLY)
    return os.write(fd, b"monotonic 1 0\n") > 0


def external_net_ns() -> bool:
    """A process can go to another network namespace and back (setns(2))."""
    return in_child(_goes_and_comes_back)


def _goes_and_comes_back() -> bool:
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    inode = os.fstat(home).st_ino
    syscall(NR["unshare"], CLONE_NEWNET)
    syscall(NR["setns"], home, CLONE_NEWNET)
    return os.stat("/proc/self/ns/net").st_ino == inode


def ns_pid() -> bool:
    """/proc/PID/status tells the pid in every nested namespace (e4bc33245124db, Linux 4.1)."""
    with open("/proc/self/status", encoding="ascii") as file:
        return any(line.startswith("NSpid:") for line in file)


def nsid() -> bool:
    """Network namespaces can be given ids, and asked for them (0c7aecd4bde4b7, Linux 4.0)."""
    return in_child(lambda: _own_nsid() == 7, CLONE_NEWNET)


def _own_nsid() -> int:
    """Give our namespace the id 7 as seen from itself, and ask for it."""
    fd = os.open("/proc/self/ns/net", os.O_RDONLY)
    name = attribute(_NETNSA_FD, struct.pack("I", fd))
    request(NETLINK_ROUTE, _RTM_NEWNSID, NLM_F_ACK, bytes(4) + attribute(_NETNSA_NSID, struct.pack("i", 7)) + name)
    (answer,) = request(NETLINK_ROUTE, _RTM_GETNSID, 0, bytes(4) + name)
    found: int = struct.unpack_from("i", answer, 8)[0]
    return found


def link_nsid() -> bool:
    """RTM_GETLINK asks for devices of another namespace by its id (79e1ad148c844f, Linux 4.15)."""
    return in_child(_loopback_by_nsid, CLONE_NEWNET)


def _loopback_by_nsid() -> bool:
    target = attribute(_IFLA_TARGET_NETNSID, struct.pack("i", _own_nsid()))
    name = attribute(_IFLA_IFNAME, b"lo\0")
    (answer,) = request(NETLINK_ROUTE, _RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + target + name)
    return target in answer


def newifindex() -> bool:
    """A device can be made with an index of one's choice (9c7dafbfab1540, Linux 3.7). Made with a veth pair."""
    return in_child(_makes_device_99, CLONE_NEWNET)


def _makes_device_99() -> bool:
    link = attribute(_IFLA_LINKINFO | NESTED, attribute(_IFLA_INFO_KIND, b"veth"))
    name = attribute(_IFLA_IFNAME, b"probe\0")
    header = _IFINFO.pack(0, 0, 99, 0, 0)
    request(NETLINK_ROUTE, _RTM_NEWLINK, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL, header + name + link)
    (answer,) = request(NETLINK_ROUTE, _RTM_GETLINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + name)
    return bool(_IFINFO.unpack_from(answer)[2] == 99)
