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
    ns_pid and the like  from the engine's namespace down to the task's own
    sig_queued, sig_limit   queued signals of the real uid, and how many it may have
    sig_pnd, shd_pnd     pending for the thread, pending for the process
    seccomp              0 none, 1 strict, 2 filter
    seccomp_filters      None before Linux 5.9
    thp_enabled          False after prctl(PR_SET_THP_DISABLE); None before Linux 5.0 and without transparent huge pages
    x86_thread_features  "shstk", "wrss"; empty where there are none
    """

    name: str
    umask: int | None
    state: str
    tgid: int
    pid: int
    ppid: int
    tracer_pid: int
    uids: Ids
    gids: Ids
    groups: tuple[int, ...]
    ns_tgid: tuple[int, ...]
    ns_pid: tuple[int, ...]
    ns_pgid: tuple[int, ...]
    ns_sid: tuple[int, ...]
    core_dumping: bool
    thp_enabled: bool | None
    threads: int
    sig_queued: int
    sig_limit: int
    sig_pnd: int
    shd_pnd: int
    sig_blk: int
    sig_ign: int
    sig_cgt: int
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

    queued, limit = fields[b"SigQ"].split(b"/")
    umask, thp, filters = fields.get(b"Umask"), fields.get(b"THP_enabled"), fields.get(b"Seccomp_filters")
    return Status(
        name=os.fsdecode(_unescape(fields[b"Name"])),
        umask=None if umask is None else int(umask, 8),
        state=chr(fields[b"State"][0]),
        tgid=int(fields[b"Tgid"]),
        pid=int(fields[b"Pid"]),
        ppid=int(fields[b"PPid"]),
        tracer_pid=int(fields[b"TracerPid"]),
        uids=Ids(*numbers(b"Uid")),
        gids=Ids(*numbers(b"Gid")),
        groups=numbers(b"Groups"),
        ns_tgid=numbers(b"NStgid"),
        ns_pid=numbers(b"NSpid"),
        ns_pgid=numbers(b"NSpgid"),
        ns_sid=numbers(b"NSsid"),
        core_dumping=fields.get(b"CoreDumping") == b"1",
        thp_enabled=None if thp is None else thp == b"1",
        threads=int(fields[b"Threads"]),
        sig_queued=int(queued),
        sig_limit=int(limit),
        sig_pnd=mask(b"SigPnd"),
        shd_pnd=mask(b"ShdPnd"),
        sig_blk=mask(b"SigBlk"),
        sig_ign=mask(b"SigIgn"),
        sig_cgt=mask(b"SigCgt"),
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
