"""A restore that can't work says all the reasons in one run, and has created nothing by then."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from engine.kernel.elf import read_build_id
from tests.hostile import ward
from tests.hostile.subject import PLAIN
from tests.hostile.trial import Damage, Trials, errors_of

if TYPE_CHECKING:
    from pathlib import Path


def _take_pid(pid: int) -> int:
    """A process with this pid."""
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(pid - 1))
    child = os.fork()
    if not child:
        signal.pause()
    assert child == pid
    return child


def _rebuild(program: Path) -> None:
    """The same program of another build."""
    with program.open("r+b") as file:
        build_id = read_build_id(file.fileno())
        content = file.read()
        file.seek(content.index(build_id))
        file.write(bytes(len(build_id)))


def _spoil(subject: Path) -> None:
    """Nothing is what it was at the dump."""
    (subject / "changed").write_bytes(b"x" * 9001)
    (subject / "opened").unlink()
    (subject / "replaced").unlink()
    (subject / "replaced").mkdir()
    (subject / "kept").chmod(0o4755)
    _rebuild(subject / "program")
    (subject / "directory" / "bound").unlink()
    (subject / "directory").rmdir()


def _damage(images: dict[str, bytes], child: int, thread: int, shared: str) -> Damage:
    """shared: the page map of shared memory."""
    return Damage(
        "many things",
        {
            f"core-{thread}.img": images[f"core-{thread}.img"][:-9],
            f"pagemap-{child}.img": images[f"pagemap-{child}.img"][:-1],
            f"fs-{child}.img": None,
            "ghost-file-1.img": images["pstree.img"],
            "pipes-data.img": images["pipes-data.img"][:-3],
            "seccomp.img": b"",
            shared: None,
        },
    )


def _every_reason(place: Path) -> str:
    trials = Trials(place, PLAIN)
    subject, images = place / "files" / "subject", trials.images
    _, child = trials.pids
    (thread,) = (tid for tid in trials.tids if tid not in trials.pids)
    taken = _take_pid(child)
    _spoil(subject)
    trials.files = ward.Files(place / "files")
    shared = next(name for name in images if name.startswith("pagemap-shmem"))
    damage = _damage(images, child, thread, shared)
    expected = [
        f"pid {child} is in use",
        f"{subject}/changed: has 9001 bytes, had 9000",
        f"{subject}/opened: No such file",
        f"{subject}/replaced: is a file of type d, was of type -",
        f"{subject}/kept: has mode -rwsr-xr-x",
        f"{subject}/program: is another build of the program",
        f"unix socket {subject}/directory/bound: {subject}/directory: No such file",
        f"core-{thread}.img: an entry claims",
        f"pagemap-{child}.img: ",
        f"fs-{child}.img (FS image) is missing",
        "ghost-file-1.img: it is an image of kind PSTREE",
        "pipes-data.img: ",
        "seccomp.img: it ends inside its magic",
        f"{shared} (SHMEM_PAGEMAP image) is missing",
    ]
    outcome = trials.restore(damage)
    ward.end([taken])
    reasons = errors_of(outcome.log)
    assert outcome.status == 1
    assert "Traceback" not in outcome.log
    assert not outcome.left
    assert not trials.files.difference()
    for reason in expected:
        assert sum(reason in each for each in reasons) == 1, f"{reason!r} is not one of\n" + "\n".join(reasons)
    assert len(reasons) == len(expected), "\n".join(reasons)
    return ""


def test_every_reason_in_one_run(tmp_path: Path) -> None:
    ward.inside(tmp_path, _every_reason)


def _whole(place: Path) -> str:
    trials = Trials(place, PLAIN)
    outcome = trials.restore(Damage("nothing", {}))
    assert (outcome.status, sorted(outcome.left)) == (0, sorted(trials.pids)), outcome.log
    ward.end(outcome.left)
    return ""


def test_nothing_is_wrong_with_what_is_whole(tmp_path: Path) -> None:
    """What the other tests break does work before that."""
    ward.inside(tmp_path, _whole)
