"""Dumps that stop the tree by its control group (--freeze-cgroup), of both versions."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import engine.cli
import engine.dump_tree
from engine.errors import CrError
from engine.kernel.proc_mountinfo import read_mountinfo
from engine.task.freezer import Freezer
from tests.harm import stepper
from tests.harm.subject import Subject
from tests.hostile import ward
from tests.hostile.trial import errors_of
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORMS = {1: ("freezer.state", "FROZEN", "THAWED"), 2: ("cgroup.freeze", "1", "0")}
_TRIALS = 20


def _hierarchy(version: int) -> Path:
    """Where it is mounted."""
    for mount in read_mountinfo(os.getpid()):
        if mount.fstype == "cgroup2" if version == 2 else "freezer" in mount.sb_options.split(","):
            return Path(mount.mountpoint)
    pytest.skip("cgroup2 is not mounted" if version == 2 else "no freezer of cgroup v1 is mounted")


class Group:
    """A control group, with one below it."""

    def __init__(self, version: int, name: str) -> None:
        self.path = _hierarchy(version) / name
        self.inner = self.path / "inner"
        self.inner.mkdir(parents=True)
        self.control, self.frozen, self.thawed = _FORMS[version]

    def enter(self, pids: list[int]) -> None:
        """The root into the group, the others into that below."""
        for pid in pids:
            directory = self.path if pid == pids[0] else self.inner
            (directory / "cgroup.procs").write_text(str(pid))

    def state(self) -> str:
        return (self.path / self.control).read_text().strip()

    def set(self, word: str) -> None:
        (self.path / self.control).write_text(word)
        wait_until(lambda: self.state() == word, f"the group is {word}")

    def members(self) -> list[int]:
        return [int(pid) for path in (self.path, self.inner) for pid in (path / "cgroup.procs").read_text().split()]

    def remove(self) -> None:
        self.set(self.thawed)
        wait_until(lambda: not self.members(), "nobody is in the group")
        self.inner.rmdir()
        self.path.rmdir()


@pytest.fixture(params=[1, 2], ids=["v1", "v2"])
def group(request: pytest.FixtureRequest) -> Iterator[Group]:
    made = Group(request.param, f"crucible-test-{os.getpid()}")
    yield made
    made.remove()


@pytest.fixture
def subject(group: Group, tmp_path: Path) -> Iterator[Subject]:
    with Subject(tmp_path / "subject") as running:
        group.enter(running.pids)
        yield running
        group.set(group.thawed)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    directory = tmp_path / "images"
    directory.mkdir()
    return directory


def _words(subject: Subject, group: Group, images: Path, *options: str) -> list[str]:
    words = ["dump", "-t", str(subject.pid), "-D", str(images), "--link-remap", "-v4"]
    return [*words, "--freeze-cgroup", str(group.path), *options]


def _dump(subject: Subject, group: Group, images: Path, *options: str) -> ward.Outcome:
    return ward.command(*_words(subject, group, images, *options), watched=False)


def test_tree_runs_on(subject: Subject, group: Group, images: Path) -> None:
    outcome = _dump(subject, group, images, "--leave-running")
    assert outcome.status == 0, outcome.log
    assert group.state() == group.thawed
    subject.check_unharmed()


def test_tree_that_its_user_has_frozen_stays_so(subject: Subject, group: Group, images: Path) -> None:
    group.set(group.frozen)
    counts = subject.counts()
    outcome = _dump(subject, group, images, "--leave-running")
    assert outcome.status == 0, outcome.log
    wait_until(lambda: group.state() == group.frozen, "the group is frozen")
    assert subject.counts() == counts, "no task came to run in between"
    group.set(group.thawed)
    subject.check_unharmed()


def test_there_and_back(subject: Subject, group: Group, images: Path) -> None:
    outcome = _dump(subject, group, images)
    assert outcome.status == 0, outcome.log
    subject.process.wait()
    wait_until(subject.gone, "the dumped tree is gone")
    assert group.state() == group.thawed
    outcome = ward.command("restore", "-D", str(images), "-d", watched=False)
    assert outcome.status == 0, outcome.log
    subject.check_counting()


def test_pre_dump(subject: Subject, group: Group, images: Path) -> None:
    words = _words(subject, group, images, "--track-mem")
    outcome = ward.command("pre-dump", *words[1:], watched=False)
    assert outcome.status == 0, outcome.log
    assert group.state() == group.thawed
    subject.check_counting()


@pytest.mark.parametrize("was_frozen", [False, True], ids=["running", "frozen"])
def test_refused_dump(subject: Subject, group: Group, images: Path, was_frozen: bool) -> None:
    """The group is what it was. Without --link-remap there is a file that can't be dumped."""
    if was_frozen:
        group.set(group.frozen)
    outcome = _dump(subject, group, images, "--no-link-remap")
    assert outcome.status == 1
    wait_until(lambda: group.state() == (group.frozen if was_frozen else group.thawed), "the group is as before")
    group.set(group.thawed)
    subject.check_unharmed()


@pytest.mark.parametrize("victim", ["worker", "engine", ""], ids=["worker killed", "engine killed", "failing"])
def test_engine_ends_at_a_step(subject: Subject, group: Group, images: Path, victim: str) -> None:
    """The group does not stay frozen."""
    engine.dump_tree.load_ahead()

    def dump() -> int:
        words = _words(subject, group, images, "--leave-running", "-o", "dump.log")
        return engine.cli.main(["crucible", *words])

    assert dump() == 0
    _remove_remaps(subject)
    steps = stepper.run(dump).steps
    # The first steps are those at which the group is frozen.
    for step in (*range(1, 30), *range(30, steps, steps // _TRIALS)):
        _remove_remaps(subject)
        stepper.run(dump, step, victim)
        wait_until(lambda: group.state() == group.thawed, f"the group is thawed after step {step} of {steps}")
        subject.check_unharmed()


def _remove_remaps(subject: Subject) -> None:
    for name in subject.remaps():
        os.unlink(subject.place / name)


def test_directory_that_is_no_group(subject: Subject, group: Group, images: Path) -> None:
    outcome = _dump(subject, group, images, "--freeze-cgroup", str(images))
    assert errors_of(outcome.log) == [
        f"--freeze-cgroup {images}: has neither freezer.state nor cgroup.freeze (name the directory of a control group)"
    ]
    subject.check_unharmed()


def test_group_below_a_frozen_one(subject: Subject, group: Group, images: Path) -> None:
    group.set(group.frozen)
    wait_until(_below_frozen(group), "the group below is frozen")
    outcome = _dump(subject, group, images, "--freeze-cgroup", str(group.inner))
    assert errors_of(outcome.log) == [
        f"--freeze-cgroup {group.inner}: a group above it is frozen (thaw that first)"
    ]
    assert group.state() == group.frozen


def _below_frozen(group: Group) -> Callable[[], bool]:
    def is_frozen() -> bool:
        with contextlib.suppress(FileNotFoundError):
            return (group.inner / "freezer.state").read_text() == "FROZEN\n"
        return "frozen 1\n" in (group.inner / "cgroup.events").read_text()

    return is_frozen


def test_group_that_the_engine_is_in(subject: Subject, group: Group, images: Path) -> None:
    """It would stop itself."""
    child = os.fork()
    if not child:
        status = 70
        with contextlib.suppress(BaseException):
            group.enter([os.getpid()])
            status = 1 if _dump(subject, group, images).status == 1 else 2
        os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert group.state() == group.thawed
    subject.check_unharmed()


def test_what_a_group_says_after_a_thaw(tmp_path: Path) -> None:
    """A group with another one below may go on saying that it is frozen. One above it that is frozen is another."""
    group = tmp_path / "group"
    group.mkdir()
    for name, content in (("cgroup.procs", ""), ("cgroup.freeze", "0\n"), ("cgroup.events", "populated 1\nfrozen 0\n")):
        (group / name).write_text(content)
    freezer = Freezer(str(group))
    (group / "cgroup.events").write_text("populated 1\nfrozen 1\n")
    freezer.thaw()
    (tmp_path / "cgroup.freeze").write_text("1\n")
    with pytest.raises(CrError, match="a group above it is frozen"):
        freezer.thaw()
