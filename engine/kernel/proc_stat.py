"""/proc/PID/stat: tree, scheduling and memory-layout numbers of one thread (proc_pid_stat(5))."""

from __future__ import annotations

import os
from typing import NamedTuple

from engine.kernel.procfs import read


class Stat(NamedTuple):
    """The fields that matter here, under the manual page's names.

    ppid, pgrp, session   in the engine's pid namespace, 0 if the task is not visible there
    state                 one letter: R S D T t Z X I
    flags                 the kernel's PF_ mask
    starttime             clock ticks since boot
    priority              RT policies: -1 - rt_priority; others: 20 + nice
    start_code and the other addresses are 0 without ptrace access to the task, and in a zombie
    exit_code             raw wait status of a zombie
    """

    pid: int
    comm: str
    state: str
    ppid: int
    pgrp: int
    session: int
    tty_nr: int
    tpgid: int
    flags: int
    priority: int
    nice: int
    num_threads: int
    starttime: int
    start_code: int
    end_code: int
    start_stack: int
    exit_signal: int
    rt_priority: int
    policy: int
    start_data: int
    end_data: int
    start_brk: int
    arg_start: int
    arg_end: int
    env_start: int
    env_end: int
    exit_code: int


# Field numbers of proc_pid_stat(5), in the order of Stat from ppid on.
_NUMBERS = (4, 5, 6, 7, 8, 9, 18, 19, 20, 22, 26, 27, 28, 38, 40, 41, 45, 46, 47, 48, 49, 50, 51, 52)


def read_stat(pid: int, tid: int | None = None) -> Stat:
    """Of the process (times and thread count are its sums then), or of one thread when tid is given."""
    return parse_stat(read(pid, "stat" if tid is None else f"task/{tid}/stat"))


def parse_stat(data: bytes) -> Stat:
    # comm may hold anything, even newlines, but no field after it has a parenthesis: it ends at the last ")".
    start, end = data.index(b"("), data.rindex(b")")
    fields = data[end + 2 :].split()
    return Stat(
        int(data[:start]),
        os.fsdecode(data[start + 1 : end]),
        fields[0].decode("ascii"),
        *[int(fields[number - 3]) for number in _NUMBERS],
    )
