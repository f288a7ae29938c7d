"""Reading /proc/PID: small files, lists, and what a task that is gone gives."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from engine.kernel import procfs
from engine.kernel.proc_fdinfo import read_fdinfo
from engine.kernel.proc_maps import read_smaps, stat_map_file
from engine.kernel.proc_mountinfo import read_mountinfo
from engine.kernel.proc_stat import read_stat
from engine.kernel.proc_status import read_status
from engine.kernel.procfs import Cgroup, Limit, PosixTimer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.kernel.subject import Subject

ONE_TASK_READERS: list[Callable[[int], Any]] = [
    procfs.children,
    procfs.list_fds,
    procfs.list_tids,
    procfs.namespace_ids,
    procfs.read_auxv,
    procfs.read_cgroups,
    procfs.read_comm,
    procfs.read_limits,
    procfs.read_loginuid,
    procfs.read_oom_score_adj,
    procfs.read_personality,
    procfs.read_timers,
    read_mountinfo,
    read_smaps,
    read_stat,
    read_status,
]


@pytest.fixture
def gone() -> int:
    """The pid of a process that has been reaped."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


@pytest.fixture
def zombie() -> Iterator[int]:
    pid = os.fork()
    if not pid:
        os._exit(3)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    yield pid
    os.waitpid(pid, 0)


@pytest.mark.parametrize("read", ONE_TASK_READERS, ids=lambda read: read.__name__)
def test_gone(read: Callable[[int], Any], gone: int) -> None:
    with pytest.raises(ProcessLookupError) as caught:
        read(gone)
    assert f"/proc/{gone}" in str(caught.value)


def test_gone_with_descriptor_or_mapping(gone: int) -> None:
    vma = read_smaps(os.getpid())[0]
    with pytest.raises(ProcessLookupError):
        read_fdinfo(gone, 0)
    with pytest.raises(ProcessLookupError):
        stat_map_file(gone, vma)


def test_a_dead_thread_is_gone_while_its_process_is_there() -> None:
    with pytest.raises(ProcessLookupError):
        read_stat(os.getpid(), 2**22 + 1)


def test_a_missing_file_is_not_a_missing_task() -> None:
    with pytest.raises(FileNotFoundError):
        procfs.read(os.getpid(), "no such file")
    with pytest.raises(FileNotFoundError):
        read_fdinfo(os.getpid(), 999999)


def test_zombie(zombie: int) -> None:
    assert procfs.list_fds(zombie) == []
    assert procfs.list_tids(zombie) == [zombie]
    assert procfs.children(zombie) == []
    assert read_smaps(zombie) == []
    stat = read_stat(zombie)
    assert (stat.state, stat.exit_code, stat.ppid) == ("Z", 3 << 8, os.getpid())
    status = read_status(zombie)
    assert (status.state, status.umask, status.seccomp) == ("Z", None, 0)
    assert "mnt" not in procfs.namespace_ids(zombie)


def test_lists(start: Callable[[str], Subject]) -> None:
    subject = start("""
import _thread
waiting = _thread.allocate_lock(); waiting.acquire()
threads = []
for _ in range(3):
    started = _thread.allocate_lock(); started.acquire()
    def run(started=started):
        threads.append(_thread.get_native_id()); started.release(); waiting.acquire()
    _thread.start_new_thread(run, ())
    started.acquire()
fds = sorted([0, 1, 2, os.dup2(0, 700), os.dup2(0, 90)])
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        os._exit(0) if len(children) == 1 else wait_for_the_end()
    children.append(child)
tell(threads=threads, fds=fds, children=children)
""")
    assert procfs.list_tids(subject.pid) == [subject.pid, *sorted(subject.facts["threads"])]
    assert procfs.list_fds(subject.pid) == subject.facts["fds"]
    assert procfs.children(subject.pid) == sorted(subject.facts["children"])


def test_children_of_threads(start: Callable[[str], Subject]) -> None:
    subject = start("""
import _thread
done = _thread.allocate_lock(); done.acquire()
def run():
    global child
    child = os.fork()
    if not child:
        wait_for_the_end()
    done.release()
    wait_for_the_end()
_thread.start_new_thread(run, ())
done.acquire()
tell(child=child)
""")
    assert procfs.children(subject.pid) == [subject.facts["child"]]


def test_children_without_the_kernels_list(start: Callable[[str], Subject], monkeypatch: pytest.MonkeyPatch) -> None:
    subject = start("tell()")
    listed = procfs.children(os.getpid())
    assert subject.pid in listed

    def read(pid: int, name: str) -> bytes:
        if name.endswith("/children"):
            raise FileNotFoundError
        return read_file(pid, name)

    read_file = procfs.read
    monkeypatch.setattr(procfs, "read", read)
    assert procfs.children(os.getpid()) == listed
    with pytest.raises(ProcessLookupError):
        procfs.children(2**22 + 1)


def test_limits(start: Callable[[str], Subject]) -> None:
    subject = start("""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (123, 456))
tell(limits=[resource.getrlimit(number) for number in range(16)])
""")
    limits = procfs.read_limits(subject.pid)
    assert limits == [Limit(soft % 2**64, hard % 2**64) for soft, hard in subject.facts["limits"]]
    assert limits[resource.RLIMIT_NOFILE] == Limit(123, 456)
    assert procfs.RLIM_INFINITY in {limit.hard for limit in limits}


def test_timers(start: Callable[[str], Subject]) -> None:
    subject = start("""
class Sigevent(ctypes.Structure):
    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("tid", ctypes.c_int),
                ("rest", ctypes.c_char * 44)]
def create(clock, value, signo, notify, tid=0):
    timer = ctypes.c_int()
    number = 222 if os.uname().machine == "x86_64" else 107
    check(libc.syscall(number, clock, ctypes.byref(Sigevent(value, signo, notify, tid)), ctypes.byref(timer)))
    return timer.value
clock = ctypes.c_int(); libc.clock_getcpuclockid(os.getpid(), ctypes.byref(clock))
ids = [create(1, 0x7fff0000beef, 10, 0), create(0, 5, 0, 1), create(clock.value, 9, 34, 4, os.getpid())]
tell(ids=ids, clock=clock.value)
""")
    pid = subject.pid
    first, second, third = subject.facts["ids"]
    clock = subject.facts["clock"]
    assert clock < 0
    assert sorted(procfs.read_timers(pid)) == [
        PosixTimer(first, signal.SIGUSR1, 0x7FFF0000BEEF, "signal", False, pid, 1),
        PosixTimer(second, 0, 5, "none", False, pid, 0),
        PosixTimer(third, 34, 9, "signal", True, pid, clock),
    ]
    assert procfs.read_timers(os.getpid()) == []


def test_auxv() -> None:
    words = procfs.read_auxv(os.getpid())
    vector = dict(zip(words[::2], words[1::2], strict=True))
    at_null, at_pagesz, at_uid = 0, 6, 11
    assert words[-2] == at_null
    assert vector[at_pagesz] == os.sysconf("SC_PAGESIZE")
    assert vector[at_uid] == os.getuid()


def test_small_values(start: Callable[[str], Subject]) -> None:
    subject = start("""
libc.personality(0x0040000)  # ADDR_NO_RANDOMIZE
open("/proc/self/oom_score_adj", "w").write("345")
libc.prctl(15, b"odd (na) \\xff\\n")
tell()
""")
    assert procfs.read_personality(subject.pid) == 0x0040000
    assert procfs.read_oom_score_adj(subject.pid) == 345
    assert os.fsencode(procfs.read_comm(subject.pid)) == b"odd (na) \xff\n"


def test_loginuid(start: Callable[[str], Subject]) -> None:
    subject = start("""
before = open("/proc/self/loginuid").read()
if before == "4294967295":
    open("/proc/self/loginuid", "w").write("1234")
tell(uid=int(open("/proc/self/loginuid").read()))
""")
    assert procfs.read_loginuid(subject.pid) == subject.facts["uid"] != procfs.LOGINUID_UNSET


def test_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    assert procfs.read_cgroups(os.getpid())
    monkeypatch.setattr(procfs, "read", lambda _pid, _name: b"4:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/x (deleted)\n")
    assert procfs.read_cgroups(1) == [
        Cgroup(4, ["cpu", "cpuacct"], "/a:b"),
        Cgroup(1, ["name=systemd"], "/"),
        Cgroup(0, [], "/x (deleted)"),
    ]


def test_namespace_ids(start: Callable[[str], Subject]) -> None:
    unshared = start("""
CLONE_NEWUTS, CLONE_NEWPID, CLONE_NEWTIME = 0x04000000, 0x20000000, 0x80
check(libc.unshare(CLONE_NEWUTS | CLONE_NEWPID | CLONE_NEWTIME))
tell()
""")
    ours, theirs = procfs.namespace_ids(os.getpid()), procfs.namespace_ids(unshared.pid)
    assert ours["uts"] == os.stat("/proc/self/ns/uts").st_ino
    different = {name for name in ours if theirs.get(name) != ours[name]}
    assert different == {"uts", "pid_for_children", "time_for_children"}
    assert "pid_for_children" not in theirs
