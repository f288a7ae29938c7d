"""Facts about a task that /proc tells in plain text, and how it is scheduled."""

from __future__ import annotations

import os
import re
from pathlib import Path

from zdtm.harness.oracle.names import Names, opener

Facts = dict[str, dict[str, str]]
"""kind -> key -> value. The kinds are what `oracle: ignore KIND` names."""

STATUS_KINDS = {
    "creds": ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"),
    "seccomp": ("Seccomp", "Seccomp_filters"),
    "signals": ("SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt"),
    "fs": ("Umask",),
    "mm": ("THP_enabled", "untag_mask"),
}
"""SigQ is left out: it counts for the user, not for the task."""

STAT_FIELDS = {"tree": {4: "pgrp", 5: "session"}, "tty": {6: "tty", 7: "foreground group"}}
STAT_MM_FIELDS = {
    25: "start_code",
    26: "end_code",
    27: "start_stack",
    44: "start_data",
    45: "end_data",
    46: "start_brk",
    47: "arg_start",
    48: "arg_end",
    49: "env_start",
    50: "env_end",
}
"""Index into /proc/PID/stat, counted from 0. proc_pid_stat(5)"""
PPID, EXIT_SIGNAL, EXIT_CODE = 3, 37, 51

ALIVE = {"R": "alive", "S": "alive", "D": "alive", "I": "alive", "T": "stopped", "t": "traced", "Z": "zombie"}


def task_facts(pid: int, names: Names) -> Facts:
    """Everything about one process but its memory and descriptors."""
    stat = _stat(pid)
    facts: Facts = {"tree": {"parent": stat[PPID], "state": ALIVE.get(stat[2], stat[2]), "comm": _comm(pid)}}
    for kind, fields in STAT_FIELDS.items():
        facts.setdefault(kind, {}).update({name: stat[index] for index, name in fields.items()})
    facts["tree"]["exit signal"] = stat[EXIT_SIGNAL]
    if stat[2] == "Z":
        # Of a dead leader its own: where the whole process is stopped, that of the process is the stop's.
        facts["tree"]["exit code"] = stat[EXIT_CODE] if face(pid) == pid else _stat(f"{pid}/task/{pid}")[EXIT_CODE]
        return facts
    threads = thread_ids(pid)
    facts["threads"] = {"ids": " ".join(map(str, threads))}
    facts["mm"] = {name: stat[index] for index, name in STAT_MM_FIELDS.items()}
    facts["mm"] |= {name: _hex(pid, name) for name in ("auxv",)}
    facts["mm"] |= {name: _strings(pid, name) for name in ("cmdline", "environ")}
    facts["mm"]["coredump_filter"] = _text(pid, "coredump_filter")
    facts["fs"] = {name: _place(pid, name, names) for name in ("cwd", "root", "exe")}
    facts["namespaces"] = {name: os.readlink(f"/proc/{pid}/ns/{name}") for name in os.listdir(f"/proc/{pid}/ns")}
    facts["limits"] = _limits(pid)
    facts["timers"] = _timers(pid)
    facts["misc"] = {"oom_score_adj": _text(pid, "oom_score_adj")}
    facts["cgroup"] = {"groups": _text(pid, "cgroup")}
    for tid in threads:
        _add_thread_facts(facts, pid, tid)
    return facts


def face(pid: int) -> int:
    """The number below /proc that shows a process as a living one: a leader that has exited before its threads is a
    zombie, through which nothing is to be seen, so that is another thread's. /proc/TID is there, though not listed."""
    if _stat(pid)[2] != "Z":
        return pid
    return min((tid for tid in thread_ids(pid) if tid != pid), default=pid)


def thread_ids(pid: int) -> list[int]:
    return sorted(int(tid) for tid in os.listdir(f"/proc/{pid}/task"))


def _add_thread_facts(facts: Facts, pid: int, tid: int) -> None:
    status = dict(re.findall(r"^(\w+):\s*(.*?)\s*$", Path(f"/proc/{pid}/task/{tid}/status").read_text(), re.MULTILINE))
    for kind, names in STATUS_KINDS.items():
        for name in names:
            if name in status:
                facts.setdefault(kind, {})[f"{name} of {tid}"] = status[name]
    facts["threads"][f"comm of {tid}"] = _comm(tid)
    facts["misc"] |= {f"{name} of {tid}": _text(tid, name) for name in ("loginuid", "personality")}
    param = os.sched_getparam(tid).sched_priority
    nice = os.getpriority(os.PRIO_PROCESS, tid)
    facts.setdefault("sched", {})[str(tid)] = f"policy {os.sched_getscheduler(tid)} priority {param} nice {nice}"


def _stat(pid: int | str) -> list[str]:
    """The words of /proc/PID/stat; the comm, which may hold anything, is one of them. pid: may be "PID/task/TID"."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="backslashreplace")
    head, _, rest = text.rpartition(") ")
    number, _, comm = head.partition(" (")
    return [number, comm, *rest.split()]


def _comm(tid: int) -> str:
    return repr(Path(f"/proc/{tid}/comm").read_bytes()[:-1])


def _text(pid: int, name: str) -> str:
    path = Path(f"/proc/{pid}/{name}")
    return path.read_text().strip() if path.exists() else "not in this kernel"


def _hex(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_bytes().hex()


def _strings(pid: int, name: str) -> str:
    return repr(Path(f"/proc/{pid}/{name}").read_bytes().split(b"\0"))


def _place(pid: int, name: str, names: Names) -> str:
    path = f"/proc/{pid}/{name}"
    return names.of(os.readlink(path), os.stat(path), f"{pid}:{name}", opener(path))


def _limits(pid: int) -> dict[str, str]:
    """Name of the limit -> "soft hard"."""
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()[1:]
    return {line[:25].strip(): " ".join(line[25:].split()[:2]) for line in lines}


def _timers(pid: int) -> dict[str, str]:
    """POSIX timers: number -> how it is set up. What is left of it nobody can see from outside."""
    path = Path(f"/proc/{pid}/timers")
    if not path.exists():
        return {}
    blocks = re.findall(r"^ID: (\d+)\n((?:\w.*\n)*?)(?=ID:|\Z)", path.read_text(), re.MULTILINE)
    return {number: "; ".join(body.split("\n")).rstrip("; ") for number, body in blocks}
