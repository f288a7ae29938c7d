"""Connections that a unix socket has not accepted yet, as the kernel keeps them.

A connection is made by connect(2): the end that is to be accepted exists from then on, with what was sent to it. It
waits in the listener's receive queue, and no call shows it without accepting it, which nothing takes back. So this
looks into the kernel's memory (kernel_memory.py): net/unix/af_unix.c, unix_stream_connect(), unix_accept().
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from engine.kernel.btf import btf
from engine.kernel.kernel_memory import kernel_memory
from engine.kernel.kernel_pages import read_page

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST = 1 << 16
_MOST_BYTES = 1 << 28
_POINTER = 8


class WaitingPacket(NamedTuple):
    """files: addresses of the struct file of each descriptor; creds: (pid, uid, gid) of the sender, if noted."""

    data: bytes
    files: list[int]
    creds: tuple[int, int, int] | None


class WaitingConnection(NamedTuple):
    """name: the client's, as bound; creds: (pid, euid, egid) of whoever connected; shutdown: the kernel's bits."""

    name: bytes
    creds: tuple[int, int, int] | None
    shutdown: int
    out_of_band: bool
    packets: list[WaitingPacket]


def waiting_connections(fd: int) -> list[WaitingConnection]:
    """The connections that wait at a listener, oldest first. Raises OSError when the kernel can't be looked into.

    Both its users and those who might connect to it must stand still.
    """
    memory = kernel_memory()
    sock = memory.field(memory.field(memory.file(fd), "file", "private_data"), "socket", "sk")
    return [_connection(memory.field(skb, "sk_buff", "sk")) for skb in _queue(sock)]


def _queue(sock: int) -> Iterator[int]:
    """The addresses of the buffers in a socket's receive queue, a ring with its head."""
    memory = kernel_memory()
    head = sock + btf().offset("sock", "sk_receive_queue")
    skb = memory.word(head)
    for _ in range(_MOST):
        if skb == head:
            return
        yield skb
        skb = memory.word(skb)
    raise OSError(0, "a socket's queue has no end")


def _connection(sock: int) -> WaitingConnection:
    memory, place = kernel_memory(), btf().offset
    peer = memory.field(sock, "unix_sock", "peer")
    cred = memory.field(sock, "sock", "sk_peer_cred")
    pid = memory.field(sock, "sock", "sk_peer_pid")
    ids = [memory.number(cred + place("cred", name)) for name in ("euid", "egid")] if cred else []
    return WaitingConnection(
        name=_name(peer) if peer else b"",
        creds=(_pid(pid), ids[0], ids[1]) if pid and ids else None,
        shutdown=memory.number(sock + place("sock", "sk_shutdown"), 1),
        out_of_band=_has_out_of_band(sock),
        packets=[_packet(skb) for skb in _queue(sock)],
    )


def _has_out_of_band(sock: int) -> bool:
    """Whether a byte of MSG_OOB waits, which there is since Linux 5.15 (CONFIG_AF_UNIX_OOB)."""
    try:
        place = btf().offset("unix_sock", "oob_skb")
    except OSError:
        return False
    return bool(kernel_memory().word(sock + place))


def _name(sock: int) -> bytes:
    """What a socket is bound to, as sock_diag(7) has it."""
    memory, place = kernel_memory(), btf().offset
    address = memory.field(sock, "unix_sock", "addr")
    if not address:
        return b""
    length = memory.number(address + place("unix_address", "len"))
    return memory.read(address + place("unix_address", "name"), length)[2:]


def _pid(pid: int) -> int:
    """The number of a struct pid in our pid namespace, 0 if it has none there."""
    memory = kernel_memory()
    own = memory.field(memory.current(), "task_struct", "thread_pid")
    namespace = _numbers(own)[-1][1]
    return next((number for number, there in _numbers(pid) if there == namespace), 0)


def _numbers(pid: int) -> list[tuple[int, int]]:
    """(number, address of its namespace) of a struct pid, outermost first."""
    memory, place, size = kernel_memory(), btf().offset, btf().size("upid")
    first = pid + place("pid", "numbers")
    count = memory.number(pid + place("pid", "level")) + 1
    return [
        (memory.number(at + place("upid", "nr")), memory.field(at, "upid", "ns"))
        for at in range(first, first + min(count, 33) * size, size)
    ]


def _packet(skb: int) -> WaitingPacket:
    memory, place = kernel_memory(), btf().offset
    noted = skb + place("sk_buff", "cb")
    pid, rights = (memory.field(noted, "unix_skb_parms", name) for name in ("pid", "fp"))
    ids = [memory.number(noted + place("unix_skb_parms", name)) for name in ("uid", "gid")]
    return WaitingPacket(_data(skb), _files(rights) if rights else [], (_pid(pid), ids[0], ids[1]) if pid else None)


def _files(rights: int) -> list[int]:
    memory, place = kernel_memory(), btf().offset
    count = memory.number(rights + place("scm_fp_list", "count"), 2)
    first = rights + place("scm_fp_list", "fp")
    return [memory.word(first + number * _POINTER) for number in range(count)]


def _data(skb: int) -> bytes:
    """The bytes of a buffer: some in one piece, the rest in pages."""
    memory, place = kernel_memory(), btf().offset
    length, in_pages = (memory.number(skb + place("sk_buff", name)) for name in ("len", "data_len"))
    if not in_pages <= length <= _MOST_BYTES:
        raise OSError(0, f"a socket buffer of {length} bytes, {in_pages} of them in pages")
    data = memory.read(memory.field(skb, "sk_buff", "data"), length - in_pages)
    if not in_pages:
        return data
    shared = memory.field(skb, "sk_buff", "head") + memory.number(skb + place("sk_buff", "end"))
    count = memory.number(shared + place("skb_shared_info", "nr_frags"), 1)
    kind, *members = _piece()
    first, size = shared + place("skb_shared_info", "frags"), btf().size(kind)
    for at in range(first, first + count * size, size):
        page, length, offset = (at + place(kind, member) for member in members)
        data += read_page(memory.word(page), memory.number(offset), memory.number(length))
    return data


def _piece() -> tuple[str, str, str, str]:
    """The structure for some bytes in a page, and its members: it became one of the network's own in Linux 6.9."""
    try:
        btf().offset("skb_frag", "netmem")
    except OSError:
        return "bio_vec", "bv_page", "bv_len", "bv_offset"
    return "skb_frag", "netmem", "len", "offset"
