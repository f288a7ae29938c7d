"""Images that were made to do harm, or such as only a plan could make: each is refused for a reason that names it."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.hostile import ward
from tests.hostile.damage import Image, decode
from tests.hostile.trial import Damage, Trials, errors_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_KERNEL = 0xFFFF800000000000
_HUGE = 1 << 62


class _Set:
    """The images of a tree, and where what they speak of is."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self.subject = trials.place / "files" / "subject"
        self.elsewhere = trials.place / "files" / "elsewhere"
        self.root, self.child = trials.pids[:2]

    def edit(self, name: str, change: Callable[[Image], object]) -> Damage:
        """The set with one image changed."""
        image = decode(name, self.trials.images[name])
        assert image is not None
        change(image)
        return Damage(name, {name: image.encode()})

    def entry(self, name: str, change: Callable[[Any], object], index: int = 0) -> Damage:
        """The set with one entry of an image changed."""
        return self.edit(name, lambda image: change(image.entries[index]))

    def file(self, kind: str, change: Callable[[Any], object], name: str = "") -> Damage:
        """The set with the first file of a kind changed, or the one of this name."""

        def of_kind(image: Image) -> object:
            parts = (getattr(entry, kind) for entry in image.entries if entry.HasField(kind))
            return change(next(part for part in parts if _name_of(part).endswith(name)))

        return self.edit("files.img", of_kind)

    def vma(self, change: Callable[[Any], object], path: str = "") -> Damage:
        """The set with a mapping of the root changed: the first, or the one of this file."""
        wanted = {entry.id for entry in self.entries("files.img") if path and entry.reg.name.endswith(path)}

        def of_file(mm: Any) -> object:
            return change(next(vma for vma in mm.vmas if not path or vma.shmid in wanted))

        return self.entry(f"mm-{self.root}.img", of_file)

    def entries(self, name: str) -> list[Any]:
        image = decode(name, self.trials.images[name])
        assert image is not None
        return image.entries


def _name_of(part: Any) -> str:
    return os.fsdecode(getattr(part, "name", "")).rstrip("\0")


class _Case(NamedTuple):
    """A damage, and what the log must say of it: a pattern."""

    damage: Damage
    reason: str


def _set(**values: object) -> Callable[[Any], None]:
    def change(message: Any) -> None:
        for name, value in values.items():
            setattr(message, name, value)

    return change


def _trees(s: _Set) -> list[_Case]:
    """Trees that are none."""
    child = s.child
    return [
        _Case(s.entry("pstree.img", _set(ppid=s.child)), rf"task {s.root} has a parent, {child}, that does not"),
        _Case(s.entry("pstree.img", _set(ppid=s.child), 1), rf"task {child} has a parent, {child}, that does not"),
        _Case(s.edit("pstree.img", lambda i: i.entries.append(i.entries[1])), rf"{child} is not a possible pid"),
        _Case(s.entry("pstree.img", lambda e: e.threads.append(s.child)), rf"{child} is not a possible pid"),
        _Case(s.entry("pstree.img", lambda e: e.threads.append(0xFFFFFFFF)), "4294967295 is not a possible pid"),
        _Case(s.entry("pstree.img", _set(sid=0x7FFFFFFF), 1), "session 2147483647 of task .* is not possible"),
        _Case(s.entry("pstree.img", _set(sid=s.child)), f"--shell-job, in session {s.child} of its shell"),
        _Case(s.entry("pstree.img", _set(sid=1), 1), "pid 1 is in use, but the leader of a session"),
        _Case(s.entry(f"core-{s.child}.img", lambda e: _set(task_state=2)(e.tc)), "lives without a leader, or is dead"),
        _Case(s.entry(f"core-{s.root}.img", lambda e: _set(task_state=2, exit_code=9)(e.tc)), "impossible status 0x9"),
        _Case(s.entry(f"core-{s.child}.img", lambda e: _set(stop_signo=65)(e.tc)), "stop_signo is 65, possible are"),
        *_namespaces(s),
    ]


def _namespaces(s: _Set) -> list[_Case]:
    """Tasks that were not in the namespaces of their engine."""
    names = ("pid", "net", "ipc", "uts", "time", "mnt", "user", "cgroup")
    changes = {name: s.entry(f"ids-{s.child}.img", _set(**{f"{name}_ns_id": 77})) for name in names}
    return [_Case(damage, rf"task {s.child}: was dumped in its own {name} namesp") for name, damage in changes.items()]


def _cycles(s: _Set) -> list[_Case]:
    """What refers to itself."""
    instances = [entry.id for entry in s.entries("files.img") if entry.HasField("epfd")]
    inner, outer = instances

    def watch_outer(epfd: Any) -> None:
        number = next(entry.fd for entry in s.entries(f"fdinfo-{_files_id(s)}.img") if entry.id == outer)
        epfd.tfd.add(id=outer, tfd=number, events=1, data=0)

    pagemap = f"pagemap-{s.root}.img"
    circle = s.edit(pagemap, lambda image: [_set(flags=1)(run) for run in image.entries[1:]])
    return [
        _Case(s.entry("seccomp.img", lambda e: _set(prev=1)(e.seccomp_filters[1])), "seccomp.img lacks a filter"),
        _Case(s.entry("seccomp.img", lambda e: _set(prev=7)(e.seccomp_filters[1])), "seccomp.img lacks a filter"),
        _Case(s.file("epfd", watch_outer), rf"task {s.root}: epoll_ctl.*: Too many levels of symbolic links"),
        _Case(Damage("parent", {**circle.files, "parent": "."}), "parent links go round in circles"),
        _Case(Damage("parent", {**circle.files, "parent": "parent"}), "parent leads to parent, which cannot be opened"),
        _Case(circle, "refers to parent images, but its directory has no link"),
    ]


def _files_id(s: _Set) -> int:
    return int(s.entries(f"ids-{s.root}.img")[0].files_id)


def _large_aio_ring(mm: Any) -> None:
    """A ring that is described as it is mapped, but for more requests than fit."""
    vma = mm.vmas[0]
    vma.status = 8192
    mm.aios.add(id=vma.start, nr_req=0xFFFFFFFF, ring_len=vma.end - vma.start)


def _memory(s: _Set) -> list[_Case]:
    """Mappings where there can be none, and that would change what they map."""
    mm = f"mm-{s.root}.img"
    eventfd = next(entry.id for entry in s.entries("files.img") if entry.HasField("efd"))
    second = s.entries(mm)[0].vmas[1]
    hole = decode(f"pagemap-{s.root}.img", s.trials.images[f"pagemap-{s.root}.img"])
    assert hole is not None
    mapped = _shared_mapping(s)
    return [
        _Case(s.vma(_set(status=8192)), "aio ring [0-9a-f]+ is not mapped as it is described"),
        _Case(s.entry(mm, lambda e: e.aios.add(id=4096, nr_req=1, ring_len=4096)), "aio ring 1000 is not mapped"),
        _Case(s.entry(mm, _large_aio_ring), "aio ring [0-9a-f]+ is not of the size"),
        _Case(s.vma(_set(end=second.start + 4096)), "mapping .* is out of order or out of range"),
        _Case(s.vma(_set(start=_KERNEL, end=_KERNEL + 4096)), "mapping ffff8.* is out of order or out of range"),
        _Case(s.vma(lambda v: _set(end=v.start)(v)), "mapping .* is out of order or out of range"),
        _Case(s.vma(lambda v: _set(start=v.start + 1)(v)), "mapping .* is out of order or out of range"),
        _Case(s.vma(_set(shmid=99999), "plain"), "names file 99999, which files.img lacks"),
        _Case(s.vma(_set(shmid=eventfd), "plain"), rf"names file {eventfd}, which has no path"),
        _Case(s.vma(_set(madv=1 << 9), "plain"), "flags or advice that no mapping has"),
        _Case(s.vma(lambda v: _set(flags=v.flags | 0x8000)(v)), "flags or advice that no mapping has"),
        _Case(s.entry(mm, _set(exe_file_id=99999)), "names file 99999, which files.img lacks"),
        _Case(_with_pages_at(s, mapped), f"the page at {mapped:#x} is in no private mapping"),
        _Case(_with_pages_at(s, 0x1000), "the page at 0x1000 is in no private mapping"),
        _Case(
            s.edit(f"pagemap-{s.root}.img", lambda i: _set(nr_pages=1 << 40)(i.entries[-1])),
            "goes beyond the end|starts before the run|has .* bytes, but .* puts",
        ),
        _Case(s.entry(f"fs-{s.root}.img", _set(cwd_id=eventfd)), rf"names file {eventfd}, which has no path"),
    ]


def _shared_mapping(s: _Set) -> int:
    """The address of the one mapping through which a file could be written to."""
    plain = {entry.id for entry in s.entries("files.img") if entry.reg.name.endswith("/plain")}
    return int(next(v.start for v in s.entries(f"mm-{s.root}.img")[0].vmas if v.shmid in plain and v.flags & 1))


def _with_pages_at(s: _Set, address: int) -> Damage:
    """The first page of memory is said to lie elsewhere."""

    def move(image: Image) -> None:
        head, first, *rest = image.entries
        first.vaddr, first.nr_pages, first.compat_nr_pages = address, 1, 1
        image.entries[:] = [head, first] if address > 0x1000 else [head, first, *rest]
        image.payloads.clear()

    return s.edit(f"pagemap-{s.root}.img", move)


def _names(s: _Set) -> list[_Case]:
    """Names that lead elsewhere."""
    victim = str(s.elsewhere / "victim")
    up = f"{s.subject}/../elsewhere/victim"
    link = next(entry.reg.name for entry in s.entries("files.img") if "link_remap." in entry.reg.name)
    return [
        _Case(s.file("reg", _set(name=up), "plain"), r"file '.*victim': its name has \. or \.\. in it"),
        _Case(s.file("reg", _set(name="plain"), "plain"), "file 'plain': its name is not absolute"),
        _Case(s.file("reg", _set(name="/a\0b"), "plain"), "reg_file_entry.name has a NUL in it"),
        _Case(s.file("reg", _set(name=f"{s.subject}/small/../../x"), "small"), "deleted file .* has . or .. in it"),
        _Case(s.file("reg", _set(name=victim), link), "victim' is no link of a dump"),
        _Case(s.file("usk", _set(moved_to=victim.encode()), "listener"), "victim: another file has that name"),
        _Case(s.file("usk", _set(name=b"x" * 200), "listener"), "its name is too long"),
        _Case(s.file("usk", _set(peer_name=b"/a\0b\0"), "listener"), "the name of its peer is too long, or goes on"),
    ]


def _sizes(s: _Set) -> list[_Case]:
    """More than there is, or can be."""
    signal = bytes([12]) + bytes(127)
    large = "ghost-file-2.img"
    fdinfo = f"fdinfo-{_files_id(s)}.img"
    ghost = s.entries(large)
    assert ghost[0].chunks

    def queue(core: Any) -> None:
        core.tc.signals_s.signals.extend([core.tc.signals_s.signals[0].__class__(siginfo=signal)] * 70000)

    return [
        _Case(s.entry(large, _set(size=_HUGE * 3)), "ghost_file_entry.size is .*, possible are"),
        _Case(s.entry(large, _set(off=_HUGE), 1), "a chunk of .* is beyond the file's"),
        _Case(s.entry(large, _set(len=_HUGE), 1), "a payload of|a chunk of|claims"),
        _Case(s.entry("memfd.img", _set(size=1 << 63)), "memfd_inode_entry.size is .*, possible are"),
        _Case(s.entry("memfd.img", _set(size=4096)), "is beyond the 4096 bytes"),
        _Case(s.entry("memfd.img", _set(hugetlb_flag=4), 1), "bytes can't have the huge pages of 0x4"),
        _Case(s.entry("pipes-data.img", _set(size=0x7FFFFFFF)), "buffer of 2147483647 bytes can't be had"),
        _Case(s.entry("pipes-data.img", _set(bytes=0xFFFFFFFF)), "a payload of 4294967295 bytes should follow"),
        _Case(s.entry(fdinfo, _set(fd=1 << 31)), "a descriptor number is there twice or is impossible"),
        _Case(s.entry(fdinfo, _set(fd=1)), "a descriptor number is there twice or is impossible"),
        _Case(s.entry(fdinfo, _set(id=99999)), "is of file 99999, which files.img lacks"),
        _Case(s.entry(f"core-{s.root}.img", queue), rf"task {s.root}: \d+ bytes of state at once"),
        _Case(s.entry("sk-queues.img", lambda e: e.scm[0].rights.append(99999)), "refers to file 99999, which"),
        _Case(s.file("efd", _set(counter=(1 << 64) - 1)), "no counter can be 18446744073709551615"),
    ]


def _try_all(place: Path) -> str:
    trials = Trials(place)
    (place / "files" / "elsewhere" / "victim").write_text("precious")
    trials.files = ward.Files(place / "files")
    images = _Set(trials)
    failures = []
    for cases in (_trees, _cycles, _memory, _names, _sizes):
        for number, case in enumerate(cases(images)):
            problem = trials.problem(case.damage)
            reasons = errors_of(trials.log)
            if problem or not any(re.search(case.reason, reason) for reason in reasons):
                failures.append(f"{cases.__name__} {number} ({case.reason}):\n{problem or trials.log or 'it succeeds'}")
    return "\n".join(failures)


def test_crafted(tmp_path: Path) -> None:
    ward.inside(tmp_path, _try_all)
