"""/proc/PID/status: credentials, signal masks and flags of one thread (proc_pid_status(5))."""

from __future__ import annotations

import os
from typing import NamedTuple

from engine.kernel.procfs import read


class Ids(NamedTuple):
    """Four uids or gids, in the engine's user namespace."""

    real: int
    effective: int
    saved: int
    fs: int


class Status(NamedTuple):
    """The fields that matter here, under the kernel's names. Signal sets and capability sets are bit masks.

    umask                None in a zombie
    tracer_pid           0 if none
    sig_pnd, shd_pnd     pending for the thread, pending for the process
    seccomp              0 none, 1 strict, 2 filter
    seccomp_filters      None before Linux 5.9
    x86_thread_features  "shstk", "wrss"; empty where there are none
    """

    name: str
    umask: int | None
    state: str
    pid: int
    ppid: int
    tracer_pid: int
    uids: Ids
    gids: Ids
    groups: tuple[int, ...]
    threads: int
    sig_pnd: int
    shd_pnd: int
    sig_blk: int
    cap_inh: int
    cap_prm: int
    cap_eff: int
    cap_bnd: int
    cap_amb: int
    no_new_privs: bool
    seccomp: int
    seccomp_filters: int | None
    x86_thread_features: frozenset[str]


def read_status(pid: int, tid: int | None = None) -> Status:
    """Of the leader, or of one thread when tid is given."""
    return parse_status(read(pid, "status" if tid is None else f"task/{tid}/status"))


def parse_status(data: bytes) -> Status:
    fields: dict[bytes, bytes] = {}
    for line in data.splitlines():
        key, _, value = line.partition(b":\t")
        fields[key] = value

    def numbers(key: bytes) -> tuple[int, ...]:
        return tuple(map(int, fields[key].split()))

    def mask(key: bytes) -> int:
        return int(fields[key], 16)

    umask, filters = fields.get(b"Umask"), fields.get(b"Seccomp_filters")
    return Status(
        name=os.fsdecode(_unescape(fields[b"Name"])),
        umask=None if umask is None else int(umask, 8),
        state=chr(fields[b"State"][0]),
        pid=int(fields[b"Pid"]),
        ppid=int(fields[b"PPid"]),
        tracer_pid=int(fields[b"TracerPid"]),
        uids=Ids(*numbers(b"Uid")),
        gids=Ids(*numbers(b"Gid")),
        groups=numbers(b"Groups"),
        threads=int(fields[b"Threads"]),
        sig_pnd=mask(b"SigPnd"),
        shd_pnd=mask(b"ShdPnd"),
        sig_blk=mask(b"SigBlk"),
        cap_inh=mask(b"CapInh"),
        cap_prm=mask(b"CapPrm"),
        cap_eff=mask(b"CapEff"),
        cap_bnd=mask(b"CapBnd"),
        cap_amb=mask(b"CapAmb"),
        no_new_privs=fields[b"NoNewPrivs"] == b"1",
        seccomp=int(fields[b"Seccomp"]),
        seccomp_filters=None if filters is None else int(filters),
        x86_thread_features=frozenset(fields.get(b"x86_Thread_features", b"").decode("ascii").split()),
    )


def _unescape(comm: bytes) -> bytes:
    r"""Undo the escaping of a name, which stat does not do: \n for a newline, \\ for a backslash."""
    if b"\\" not in comm:
        return comm
    return b"\\".join(part.replace(b"\\n", b"\n") for part in comm.split(b"\\\\"))
