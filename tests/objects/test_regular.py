"""Files by their paths: what is stored, what is compared, and how they are opened."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.objects.regular import mapped_file_id
from tests.objects.facts import flags_of, link_of

if TYPE_CHECKING:
    from pathlib import Path

    from engine.dump_context import DumpContext
    from tests.objects.conftest import Cycle


@pytest.mark.parametrize(
    "flags",
    [
        os.O_RDONLY,
        os.O_WRONLY,
        os.O_RDWR | os.O_APPEND,
        os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_EXCL,
        os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME,
        os.O_WRONLY | os.O_DIRECT | os.O_SYNC,
        os.O_RDWR | os.O_DSYNC | os.O_NOFOLLOW | os.O_NOCTTY,
        os.O_PATH,
        os.O_PATH | os.O_NOFOLLOW,
    ],
)
def test_flags_and_position(cycle: Cycle, place: Path, flags: int) -> None:
    if not flags & os.O_CREAT:
        (place / "file").write_text("some text")
    fd = os.open(place / "file", flags)
    if not flags & os.O_PATH:
        os.lseek(fd, 5, os.SEEK_SET)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert flags_of(new) == flags_of(fd)
    if not flags & os.O_PATH:
        assert os.lseek(new, 0, os.SEEK_CUR) == 5
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.lseek(new, 0, os.SEEK_CUR) == 5, "the restored description is the old one"
    os.close(fd)


def test_asynchronous_notification_is_a_flag_that_open_does_not_take(cycle: Cycle, place: Path) -> None:
    import fcntl

    (place / "file").touch()
    fd = os.open(place / "file", os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.FASYNC | os.O_APPEND)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert flags_of(new) == flags_of(fd)
    os.close(fd)


def test_directories_devices_and_symlinks(cycle: Cycle, place: Path) -> None:
    (place / "link").symlink_to("nowhere")
    for name in "abcdefgh":
        (place / name).touch()
    directory = os.open(place, os.O_RDONLY)
    os.listdir(directory)
    fds = [directory, os.open("/dev/full", os.O_RDWR), os.open(place / "link", os.O_PATH | os.O_NOFOLLOW)]
    cycle.dump(*fds)
    new = cycle.restore()
    assert os.lseek(new[0], 0, os.SEEK_CUR) == os.lseek(directory, 0, os.SEEK_CUR)
    assert os.fstat(new[1]).st_rdev == os.makedev(1, 7)
    assert os.readlink("", dir_fd=new[2]) == "nowhere"
    assert [flags_of(fd) for fd in new] == [flags_of(fd) for fd in fds]
    for fd in fds:
        os.close(fd)


@pytest.mark.parametrize("device", ["/dev/loop-control", "/dev/fuse", "/dev/net/tun"])
def test_devices_with_state_are_refused(cycle: Cycle, device: str) -> None:
    if not os.path.exists(device):
        number = {"/dev/fuse": (10, 229), "/dev/net/tun": (10, 200), "/dev/loop-control": (10, 237)}[device]
        pytest.fail(f"{device} {number} is missing on this machine")
    fd = os.open(device, os.O_RDWR | os.O_NOCTTY)
    try:
        with pytest.raises(Refused, match=rf"descriptor {fd} \({device}.*\): .*close it before the dump"):
            cycle.dump(fd)
    finally:
        os.close(fd)


def test_size_mode_and_build_id_are_stored(cycle: Cycle, place: Path) -> None:
    program = shutil.copy(sys.executable, place / "program")
    fds = [
        os.open(program, os.O_RDONLY),
        os.open(program, os.O_WRONLY | os.O_APPEND),
        os.open(place, os.O_RDONLY),
    ]
    with_size, log, directory = cycle.dump(*fds)
    assert with_size.size == os.stat(program).st_size
    assert with_size.mode == os.stat(program).st_mode
    words = subprocess.run(["readelf", "-n", program], capture_output=True, text=True, check=True).stdout
    expected = bytes.fromhex(words.split("Build ID: ")[1].split()[0])
    assert b"".join(word.to_bytes(4, "little") for word in with_size.build_id) == expected
    assert not log.HasField("size"), "a log may grow"
    assert (directory.HasField("size"), directory.mode) == (False, os.stat(place).st_mode)
    assert os.lseek(fds[0], 0, os.SEEK_CUR) == 0
    for fd in fds:
        os.close(fd)


def change_size(path: Path) -> None:
    path.write_text("longer than it was")


def change_mode(path: Path) -> None:
    path.chmod(0o600)


def change_type(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (os.unlink, r"file: No such file or directory \(put the file back"),
        (change_size, r"file: has 18 bytes, had 4 \(put the file back"),
        (change_mode, r"file: has mode -rw-------, had -rw-r--r-- \(--skip-file-rwx-check accepts it\)"),
        (change_type, r"file: is a file of type p, was of type -"),
    ],
)
def test_changed_files_are_refused(cycle: Cycle, place: Path, change: object, message: str) -> None:
    (place / "file").write_text("text")
    (place / "file").chmod(0o644)
    fd = os.open(place / "file", os.O_RDONLY)
    cycle.dump(fd)
    assert callable(change)
    change(place / "file")
    with pytest.raises(Refused, match=message):
        cycle.check()
    os.close(fd)


def test_changed_mode_is_accepted_on_demand(cycle: Cycle, place: Path) -> None:
    (place / "file").touch()
    fd = os.open(place / "file", os.O_RDONLY)
    cycle.dump(fd)
    (place / "file").chmod(0o600)
    cycle.opts.skip_file_rwx_check = True
    cycle.restore()
    os.close(fd)


def test_other_build_of_the_same_size(cycle: Cycle, place: Path) -> None:
    program = place / "program"
    shutil.copy(sys.executable, program)
    fd = os.open(program, os.O_RDONLY)
    (entry,) = cycle.dump(fd)
    content = program.read_bytes()
    build_id = b"".join(word.to_bytes(4, "little") for word in entry.build_id)
    program.write_bytes(content.replace(build_id, build_id[::-1]))
    with pytest.raises(Refused, match="program: is another build of the program"):
        cycle.check()
    cycle.opts.file_validation = "filesize"
    cycle.restore()
    os.close(fd)


HOSTILE_NAMES = ["etc/passwd", "", "/etc/../etc/passwd", "/etc/./passwd", "/etc/pass\0wd", "/" + 4096 * "x"]


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_hostile_names(cycle: Cycle, place: Path, name: str) -> None:
    fd = os.open(place, os.O_RDONLY)
    cycle.dump(fd)
    cycle.dump_context.entries[0].reg.name = name
    with pytest.raises(Refused, match="its name .*the image is damaged"):
        cycle.check()
    os.close(fd)


@pytest.mark.parametrize("name", ["a\nb", "a\udcffb", "x (deleted)", "link_remap.7"])
def test_odd_names(cycle: Cycle, place: Path, name: str) -> None:
    (place / name).write_text("text")
    fd = os.open(place / name, os.O_RDONLY)
    cycle.dump(fd)
    (new,) = cycle.restore()
    assert os.fstat(new).st_ino == os.fstat(fd).st_ino
    os.close(fd)


def test_file_below_a_mount_is_refused(cycle: Cycle, place: Path) -> None:
    (place / "file").touch()
    (place / "lost").touch()
    fds = [os.open(place / name, os.O_RDWR) for name in ("file", "lost")]
    (place / "lost").unlink()
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    try:
        with pytest.raises(Refused) as refused:
            cycle.dump(*fds)
    finally:
        subprocess.run(["umount", place], check=True)
    first, second = refused.value.reasons
    assert first.partition("file): ")[2].partition("another mount hides it")[1]
    assert second.partition("lost (deleted)): ")[2].partition("another mount hides the directory it was in")[1]
    for fd in fds:
        os.close(fd)


def test_file_of_a_mount_that_is_gone_is_refused(cycle: Cycle, place: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
    (place / "file").touch()
    fd = os.open(place / "file", os.O_RDWR)
    subprocess.run(["umount", "--lazy", place], check=True)
    with pytest.raises(Refused, match="it lies on a mount that is not in the engine's mount namespace"):
        cycle.dump(fd)
    os.close(fd)


def test_external_file(cycle: Cycle, place: Path) -> None:
    (place / "file").write_text("a")
    (place / "other").write_text("b")
    fd = os.open(place / "file", os.O_RDONLY)
    with open(f"/proc/self/fdinfo/{fd}") as info:
        mnt_id = int(info.read().split("mnt_id:\t")[1].split()[0])
    key = f"file[{mnt_id:x}:{os.fstat(fd).st_ino:x}]"
    cycle.opts.external = [key]
    (entry,) = cycle.dump(fd)
    assert (entry.ext, entry.name) == (True, key)
    with pytest.raises(Refused, match=r"pass it by --inherit-fd fd\[N\]:file\["):
        cycle.check()
    other = os.open(place / "other", os.O_RDONLY)
    cycle.opts.inherit_fd = [(other, key)]
    (new,) = cycle.restore()
    assert os.read(new, 1) == b"b"
    os.close(fd)
    os.close(other)


def test_inherited_file_takes_the_place_of_a_path(cycle: Cycle, place: Path) -> None:
    (place / "file").write_text("a")
    fd = os.open(place / "file", os.O_RDONLY)
    cycle.dump(fd)
    (place / "file").unlink()
    cycle.opts.inherit_fd = [(fd, str(place / "file").lstrip("/"))]
    (new,) = cycle.restore()
    assert os.read(new, 1) == b"a"
    os.close(fd)


def test_mapped_files_get_one_entry_each(cycle: Cycle, place: Path) -> None:
    (place / "one").write_text("1")
    (place / "two").write_text("2")
    fds = [os.open(place / name, os.O_PATH) for name in ("one", "two", "one")]
    ids: list[int] = []

    def describe(ctx: DumpContext) -> None:
        ids.extend(mapped_file_id(ctx, ctx.root, fd, link_of(fd)) for fd in fds)

    cycle.dump(also=describe)
    assert ids == [1, 2, 1]
    ctx = cycle.check()
    kind, entry = ctx.submessage(2)
    assert (entry.flags, entry.pos, entry.fown.pid) == (0, 0, 0)
    fd = kind.open_mapped(entry, os.O_RDWR, ctx)
    assert os.read(fd, 1) == b"2"
    for each in (fd, *fds):
        os.close(each)
    ctx.clean_up()


def test_names_are_those_of_the_file_not_of_a_deleted_one(cycle: Cycle, place: Path) -> None:
    """A name that really ends in " (deleted)", beside the file without it."""
    (place / "x").write_text("plain")
    (place / "x (deleted)").write_text("odd")
    fd = os.open(place / "x (deleted)", os.O_RDONLY)
    (entry,) = cycle.dump(fd)
    assert entry.name == str(place / "x (deleted)")
    assert stat.S_ISREG(entry.mode)
    os.close(fd)
