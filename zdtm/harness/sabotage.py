"""Damages one kind of state in a directory of images, to find out whether the tests would notice an engine that does.

    pytest zdtm --sabotage pipe-data

Each kind is an edit of the entries of one image kind: it gets an entry and its payload, changes them and says whether
there was anything to change. An item whose images hold no such state is skipped, the others are expected to fail.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from zdtm.harness.image_edit import PAGE, Edit, Record, edit_entries, edit_pages

O_APPEND, O_NONBLOCK = 0o2000, 0o4000
FD_CLOEXEC = 1
LISTEN = 10
SIGNAL_64 = 1 << 63
ALIVE, DEAD = 1, 2
RLIMIT_NOFILE = 7
CAP_NET_RAW = 1 << 13
VMA_AREA_VVAR = 1 << 12


def damage(kind: str, directory: Path) -> int:
    """Damage one kind of state, by its name in KINDS. How many objects were hit."""
    return KINDS[kind](str(directory))


def _invert_payload(record: Record) -> bool:
    record.payload[:] = bytes(byte ^ 0xFF for byte in record.payload)
    return bool(record.payload)


def _drop(record: Record) -> bool:
    record.dropped = True
    return True


def _drop_pipe_data(record: Record) -> bool:
    had: bool = record.entry.bytes > 0
    record.entry.bytes = 0
    record.payload.clear()
    return had


def _task(change: Callable[[Any], bool]) -> Edit:
    """An edit of what belongs to a process: core.tc of those that are alive."""

    def edit(record: Record) -> bool:
        core = record.entry
        alive: bool = core.HasField("tc") and core.tc.task_state == ALIVE
        return alive and change(core.tc)

    return edit


def _thread(change: Callable[[Any], bool]) -> Edit:
    """An edit of what belongs to a thread: core.thread_core."""
    return lambda record: record.entry.HasField("thread_core") and change(record.entry.thread_core)


def _file(field: str, change: Callable[[Any], bool]) -> Edit:
    """An edit of one type of open file: a submessage of the entries of files.img."""
    return lambda record: record.entry.HasField(field) and change(getattr(record.entry, field))


def _socket(change: Callable[[Any], bool]) -> Edit:
    """An edit of unix and inet sockets, which share many fields."""

    def edit(record: Record) -> bool:
        found = [getattr(record.entry, field) for field in ("usk", "isk") if record.entry.HasField(field)]
        return any(change(sock) for sock in found)

    return edit


def _set(field: str, value: object, entry: Any) -> bool:
    """Set a field; a state that has the value already cannot be damaged."""
    had: bool = getattr(entry, field) != value
    setattr(entry, field, value)
    return had


def _flip(field: str, bits: int, entry: Any) -> bool:
    setattr(entry, field, getattr(entry, field) ^ bits)
    return True


def _clear(field: str, entry: Any) -> bool:
    """Drop an optional submessage, or all elements of a list."""
    value = getattr(entry, field)
    had = len(value) > 0 if hasattr(value, "__len__") else entry.HasField(field)
    entry.ClearField(field)
    return had


def _default_actions(tc: Any) -> bool:
    caught = [action for action in tc.sigactions if action.sigaction != 0]
    for action in caught:
        action.sigaction = 0
    return bool(caught)


def _stop_itimers(tc: Any) -> bool:
    timers = [tc.timers.real, tc.timers.virt, tc.timers.prof]
    return sum(_set("vsec", 0, timer) | _set("vusec", 0, timer) for timer in timers) > 0


def _lower_open_files(tc: Any) -> bool:
    tc.rlimits.rlimits[RLIMIT_NOFILE].cur -= 1
    return True


def _take_capability(thread: Any) -> bool:
    had: bool = thread.creds.cap_eff[0] & CAP_NET_RAW != 0
    thread.creds.cap_eff[0] &= ~CAP_NET_RAW
    return had


def _change_exit_code(record: Record) -> bool:
    core = record.entry
    return core.HasField("tc") and core.tc.task_state == DEAD and _flip("exit_code", 0x100, core.tc)


def _stay_at_root(record: Record) -> bool:
    had: bool = record.entry.cwd_id != record.entry.root_id
    record.entry.cwd_id = record.entry.root_id
    return had


def _rewind(reg: Any) -> bool:
    """Not of files opened to append, such as every program's stdout: the position does not matter to them."""
    return reg.flags & O_APPEND == 0 and _set("pos", 0, reg)


def _flip_cloexec(record: Record) -> bool:
    return record.entry.fd > 2 and _flip("flags", FD_CLOEXEC, record.entry)


def _watch_one_less(epoll: Any) -> bool:
    had = len(epoll.tfd) > 0
    del epoll.tfd[:1]
    return had


def _shorter_backlog(sock: Any) -> bool:
    return sock.state == LISTEN and _set("backlog", sock.backlog // 2 + 1, sock)


def _forget_owner(record: Record) -> bool:
    """fown is a field of every type of open file."""
    owners = [value.fown for _, value in record.entry.ListFields() if hasattr(value, "fown")]
    return sum(_set("pid", 0, owner) | _set("signum", 0, owner) for owner in owners) > 0


def _raw_terminal(record: Record) -> bool:
    return record.entry.HasField("termios") and _flip("c_lflag", 0o10, record.entry.termios)


def _shrink_window(record: Record) -> bool:
    return record.entry.HasField("winsize") and _flip("ws_row", 1, record.entry.winsize)


def _forget_advice(record: Record) -> bool:
    """Not that of vvar, which is the kernel's own."""
    return sum(_set("madv", 0, vma) for vma in record.entry.vmas if not vma.status & VMA_AREA_VVAR) > 0


def _files(field: str, change: Callable[[Any], bool]) -> Callable[[str], int]:
    return partial(edit_entries, "FILES", _file(field, change))


def _core(edit: Edit) -> Callable[[str], int]:
    return partial(edit_entries, "CORE", edit)


KINDS: dict[str, Callable[[str], int]] = {
    # Open files.
    "pipe-data": partial(edit_entries, "PIPES_DATA", _drop_pipe_data),
    "pipe-bytes": partial(edit_entries, "PIPES_DATA", _invert_payload),
    "pipe-size": partial(edit_entries, "PIPES_DATA", lambda record: _flip("size", PAGE * 2, record.entry)),
    "fifo-data": partial(edit_entries, "FIFO_DATA", _drop_pipe_data),
    "cloexec": partial(edit_entries, "FDINFO", _flip_cloexec),
    "file-pos": _files("reg", _rewind),
    "file-flags": _files("reg", partial(_flip, "flags", O_NONBLOCK)),
    "fown": partial(edit_entries, "FILES", _forget_owner),
    "plugin-state": _files("ext", lambda ext: _set("state", b"\xff\xff\xff\x7f", ext.plugin)),
    "eventfd-counter": _files("efd", partial(_set, "counter", 0)),
    "epoll-target": _files("epfd", _watch_one_less),
    "signalfd-mask": _files("sgfd", partial(_set, "sigmask", 0)),
    "timerfd": _files("tfd", partial(_set, "vsec", 0)),
    "inotify-watches": _files("ify", partial(_clear, "wd")),
    "inotify-events": _files("ify", partial(_clear, "event")),
    "socket-queue": partial(edit_entries, "SK_QUEUES", _invert_payload),
    "socket-options": partial(edit_entries, "FILES", _socket(lambda sock: _flip("so_keepalive", 1, sock.opts))),
    "socket-backlog": partial(edit_entries, "FILES", _socket(_shorter_backlog)),
    "socket-shutdown": partial(edit_entries, "FILES", _socket(partial(_set, "shutdown", 0))),
    "ghost-content": partial(edit_entries, "GHOST_FILE", _invert_payload),
    "memfd-seals": partial(edit_entries, "MEMFD_INODE", lambda record: _set("seals", 0, record.entry)),
    "locks": partial(edit_entries, "FILE_LOCKS", _drop),
    "tty-modes": partial(edit_entries, "TTY_INFO", _raw_terminal),
    "tty-size": partial(edit_entries, "TTY_INFO", _shrink_window),
    "tty-data": partial(edit_entries, "TTY_DATA", _drop),
    # Tasks.
    "comm": _core(_task(partial(_set, "comm", "impostor"))),
    "cwd": partial(edit_entries, "FS", _stay_at_root),
    "umask": partial(edit_entries, "FS", lambda record: _flip("umask", 0o5, record.entry)),
    "sigmask": _core(_task(partial(_flip, "blk_sigset", SIGNAL_64))),
    "thread-sigmask": _core(_thread(lambda thread: thread.HasField("comm") and _flip("blk_sigset", SIGNAL_64, thread))),
    "sigactions": _core(_task(_default_actions)),
    "pending-signals": _core(_task(lambda tc: len(tc.signals_s.signals) > 0 and _clear("signals_s", tc))),
    "thread-signals": _core(_thread(lambda thread: len(thread.signals_p.signals) > 0 and _clear("signals_p", thread))),
    "itimers": _core(_task(_stop_itimers)),
    "posix-timers": _core(_task(lambda tc: _clear("posix", tc.timers))),
    "rlimits": _core(_task(_lower_open_files)),
    "oom-score": _core(_task(partial(_set, "oom_score_adj", 7))),
    "sched": _core(_thread(lambda thread: _set("sched_nice", thread.sched_nice + 1, thread))),
    "capabilities": _core(_thread(_take_capability)),
    "groups": _core(_thread(lambda thread: _clear("groups", thread.creds))),
    "no-new-privs": _core(_thread(lambda thread: _set("no_new_privs", 0, thread.creds))),
    "seccomp": _core(_thread(partial(_set, "seccomp_mode", 0))),
    "altstack": _core(_thread(lambda thread: _set("ss_sp", 0, thread.sas))),
    "pdeath-signal": _core(_thread(partial(_set, "pdeath_sig", 0))),
    "exit-code": partial(edit_entries, "CORE", _change_exit_code),
    # Memory.
    "private-page": partial(edit_pages, "PAGEMAP"),
    "shared-page": partial(edit_pages, "SHMEM_PAGEMAP"),
    "madvise": partial(edit_entries, "MM", _forget_advice),
    "brk": partial(edit_entries, "MM", lambda record: _flip("mm_brk", PAGE, record.entry)),
}
