"""Probes for sockets and packet filters."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from engine.kernel.features.child import CLONE_NEWNET, in_child
from engine.kernel.features.netlink import (
    NETLINK_NETFILTER,
    NETLINK_SOCK_DIAG,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_DUMP,
    NLM_F_REQUEST,
    attribute,
    exchange,
    message,
    request,
)
from engine.kernel.libc import NR, address, syscall

_SIOCGSKNS, _SIOCUNIXFILE = 0x894C, 0x89E0
_TCP_REPAIR, _IPV6_FREEBIND, _SO_BUF_LOCK, _IPT_SO_GET_INFO = 19, 78, 72, 64
_IPT_GETINFO_SIZE = 84  # struct ipt_getinfo, which is asked with the table's name in it
_SOCK_DIAG_BY_FAMILY = 20
_NFNL_SUBSYS_NFTABLES, _NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 10, 16, 17
_NFT_MSG_NEWTABLE, _NFT_MSG_GETGEN, _NFTA_TABLE_NAME = 0, 16, 1
_NFPROTO_INET = 1


def sk_ns() -> bool:
    """SIOCGSKNS gives the network namespace of a socket (c62cce2caee558, Linux 4.10)."""
    with socket.socket(socket.AF_UNIX) as sock:
        os.close(fcntl.ioctl(sock, _SIOCGSKNS))
    return True


def sk_unix_file() -> bool:
    """SIOCUNIXFILE opens the file a unix socket is bound to (ba94f3088b79, Linux 4.12). This one is bound to none."""
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            os.close(fcntl.ioctl(sock, _SIOCUNIXFILE))
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
    return True


def sockopt_buf_lock() -> bool:
    """SO_BUF_LOCK: buffers that keep their size (04190bf8944deb, Linux 5.14)."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK, 3)
        return sock.getsockopt(socket.SOL_SOCKET, _SO_BUF_LOCK) == 3


def ipv6_freebind() -> bool:
    """IPV6_FREEBIND (84e14fe353de7624, Linux 4.15)."""
    with socket.socket(socket.AF_INET6) as sock:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND) == 1


def tcp_half_closed() -> bool:
    """TCP_REPAIR works on a connection that one side has closed (319b0534b95882, Linux 4.19)."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        with socket.create_connection(listener.getsockname()) as client, listener.accept()[0]:
            client.shutdown(socket.SHUT_WR)
            client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 1)
            client.setsockopt(socket.IPPROTO_TCP, _TCP_REPAIR, 0)
    return True


def net_diag_raw() -> bool:
    """sock_diag lists raw sockets (432490f9d455fb, Linux 4.10)."""
    every_state = (1 << 32) - 1
    body = struct.pack("BBBxI48x", socket.AF_INET, socket.IPPROTO_RAW, 0, every_state)
    request(NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, body)
    return True


def nftables() -> bool:
    """nf_tables answers."""
    request(NETLINK_NETFILTER, _NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_GETGEN, 0, _nfgenmsg(0))
    return True


def network_lock_nftables() -> bool:
    """nf_tables makes tables of the inet family, in which the network lock lives."""
    return in_child(_makes_inet_table, CLONE_NEWNET)


def _makes_inet_table() -> bool:
    """Changes of nf_tables come as a batch: begin, changes, end."""
    name = attribute(_NFTA_TABLE_NAME, b"probe\0")
    flags = NLM_F_REQUEST | NLM_F_CREATE | NLM_F_ACK
    batch = message(_NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, _nfgenmsg(0, _NFNL_SUBSYS_NFTABLES))
    batch += message(_NFNL_SUBSYS_NFTABLES << 8 | _NFT_MSG_NEWTABLE, flags, _nfgenmsg(_NFPROTO_INET) + name)
    batch += message(_NFNL_MSG_BATCH_END, NLM_F_REQUEST, _nfgenmsg(0, _NFNL_SUBSYS_NFTABLES))
    exchange(NETLINK_NETFILTER, batch, until_done=True)
    return True


def _nfgenmsg(family: int, resource: int = 0) -> bytes:
    return struct.pack(">BBH", family, 0, resource)


def has_ipt_legacy() -> bool:
    """The kernel has the tables of the older iptables, not those of nf_tables behind the same commands alone."""
    info = address(bytearray(b"filter".ljust(_IPT_GETINFO_SIZE, b"\0")))
    length = address(bytearray(struct.pack("I", _IPT_GETINFO_SIZE)))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        syscall(NR["getsockopt"], sock.fileno(), socket.IPPROTO_IP, _IPT_SO_GET_INFO, info, length)
    return True
