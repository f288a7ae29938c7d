"""What ci/vm prepares for a guest, without one."""

from __future__ import annotations

import lzma
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ci.vm import crossing, initramfs, kernels, machine, roots, suite, verdicts
from ci.vm.kernels import Kernel
from tests.tools import needs_tool

PAYLOAD = b"an uncompressed kernel" * 1000


def compressed_kernel(payload: bytes) -> bytes:
    """A header like that of a bzImage: one setup sector more, then code, 64 bytes into which the payload stands."""
    header = bytearray(2 * 512)
    header[0x1F1] = 1
    struct.pack_into("<II", header, 0x248, 64, len(payload))
    return bytes(header) + bytes(64) + payload + b"what follows"


def test_payload_of_an_x86_kernel() -> None:
    xz = lzma.compress(PAYLOAD) + struct.pack("<I", len(PAYLOAD))
    assert kernels._bootable(compressed_kernel(xz), "amd64") == PAYLOAD


def test_payload_that_nobody_can_read() -> None:
    with pytest.raises(ValueError, match="not known here: b'LZ4M"):
        kernels._bootable(compressed_kernel(b"LZ4MAGIC"), "amd64")


def test_kernel_of_another_machine_is_booted_as_it_is() -> None:
    assert kernels._bootable(b"MZ@\xfa", "arm64") == b"MZ@\xfa"


def test_unknown_kernel() -> None:
    with pytest.raises(LookupError, match="no kernel 2.4; there are 6.1, "):
        kernels.get("2.4")


def test_initramfs_loads_modules_after_those_they_need(tmp_path: Path) -> None:
    needs_tool("cpio", "cpio")
    modules = tmp_path / "6.6.6"
    (modules / "fs").mkdir(parents=True)
    (modules / "fs/9p.ko.xz").write_bytes(lzma.compress(b"nine"))
    (modules / "fs/overlay.ko").write_bytes(b"over")
    (modules / "netfs.ko").write_bytes(b"netfs")
    (modules / "fscache.ko").write_bytes(b"cache")
    (modules / "modules.dep").write_text(
        "fs/9p.ko.xz: netfs.ko fscache.ko\nfs/overlay.ko:\nnetfs.ko: fscache.ko\nfscache.ko:\n"
    )
    busybox = tmp_path / "busybox"
    busybox.write_bytes(b"busybox")
    made = initramfs.make(Kernel("6.6", "amd64", tmp_path / "image", modules), busybox)
    content = tmp_path / "content"
    content.mkdir()
    subprocess.run(["cpio", "-id", "--quiet"], cwd=content, input=made.read_bytes(), check=True)
    assert (content / "modules/order").read_text().split() == ["fscache.ko", "netfs.ko", "9p.ko", "overlay.ko"]
    assert (content / "modules/9p.ko").read_bytes() == b"nine"


@pytest.mark.parametrize(("shard", "count"), [("1/2", 2), ("2/2", 1)])
def test_the_engines_tests_run_in_the_first_shard(shard: str, count: int) -> None:
    lines = suite.script("amd64", shard, ["-m", "kernel"]).splitlines()
    runs = [line for line in lines if " -m pytest " in line]
    assert len(runs) == count
    assert all(line.endswith("|| status=1") for line in runs)
    assert f"--shard {shard}" in runs[0]
    assert lines[-1] == "exit $status"


def test_guests_with_another_security_module_run_its_programs_only() -> None:
    lines = suite.script("amd64", "1/1", ["-m", "kernel", "-k", "selinux"], ()).splitlines()
    (run,) = (line for line in lines if " -m pytest " in line)
    assert "zdtm --shard 1/1" in run
    assert run.endswith("-k selinux || status=1")


def test_policy_for_guests_is_one(tmp_path: Path) -> None:
    """guest.sh compiles it in the same way."""
    needs_tool("checkpolicy", "checkpolicy")
    policy = Path(machine.__file__).with_name("policy.conf")
    subprocess.run(["checkpolicy", "-M", "-U", "allow", "-o", tmp_path / "policy", policy], check=True)


@pytest.mark.parametrize(("security", "words"), [("selinux", ["security=selinux"]), (None, [])])
def test_security_module_of_a_guest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, security: str | None, words: list[str]
) -> None:
    monkeypatch.setattr(initramfs, "make", lambda *_: tmp_path)
    guest = machine.Guest(Kernel("6.6", "amd64", tmp_path, tmp_path), (), tmp_path, security=security)
    command = guest._command("tcg", tmp_path)
    line = command[command.index("-append") + 1]
    assert [word for word in line.split() if word.startswith("security=")] == words


def test_images_cross_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roots, "criu", lambda: ["env", "/criu"])
    runs = [line for line in crossing.script(["one.py", "two.c"]).splitlines() if " -m pytest " in line]
    assert len(runs) == 3
    ours, theirs = "-m engine'", "'env /criu'"
    for run, (dumper, restorer) in zip(runs, ((ours, theirs), (theirs, ours), (theirs, theirs)), strict=True):
        assert f"{dumper} --restore-engine" in run
        assert f"{restorer} --junitxml" in run
    assert all("zdtm/static/one.py zdtm/static/two.c || status=1" in run for run in runs[:2])


@pytest.fixture
def guest_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, list[str]], list[list[str]]]:
    """Runs the crossing's script as a guest would, after which some programs "failed". Gives the paths and engines of
    each run of pytest."""
    monkeypatch.setattr(roots, "criu", lambda: ["/criu"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    def run(failed: str, programs: list[str]) -> list[list[str]]:
        said = f'[ "$2" = pytest ] && echo "$@" >> {tmp_path}/runs; [ "$2" = ci.vm.verdicts ] && echo "{failed}"'
        (tmp_path / "python").write_text(f"#!/bin/sh\n{said}\nexit 0\n")
        (tmp_path / "python").chmod(0o755)
        subprocess.run(["sh", "-c", crossing.script(programs)], check=True)
        words = ("zdtm/static", "/criu")
        runs = (tmp_path / "runs").read_text().splitlines()
        return [[word for word in run.split() if word.startswith(words)] for run in runs]

    return run


def test_what_did_not_cross_is_the_controls(guest_runs: Callable[[str, list[str]], list[list[str]]]) -> None:
    _, _, control = guest_runs("zdtm/static/pipe_full.py", ["pipe_full.py", "flock.py", "zombies.py"])
    assert sorted(control) == ["/criu", "/criu", "zdtm/static/pipe_full.py", "zdtm/static/zombies.py"]


def test_no_control_when_all_have_crossed(guest_runs: Callable[[str, list[str]], list[list[str]]]) -> None:
    assert len(guest_runs("", ["pipe_full.py", "flock.py"])) == 2


def test_programs_may_follow_options() -> None:
    assert crossing.parse("6.1 --reports there one.py two.c".split()).programs == ["one.py", "two.c"]
    assert crossing.parse(["6.1"]).programs == crossing.PROGRAMS


def write_report(directory: Path, name: str, **verdicts: str) -> None:
    """As pytest writes it of two flavours, the first of which passed."""
    cases = "".join(
        f'<testcase classname="zdtm.static.{program}" name="h-cli"/>'
        f'<testcase classname="zdtm.static.{program}" name="ns-cli">{verdict and f"<{verdict}/>"}</testcase>'
        for program, verdict in verdicts.items()
    ).replace("posix_timers", "posix_timers.c")
    (directory / f"{name}.xml").write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")


def test_the_table_tells_whose_failure_it_is(tmp_path: Path) -> None:
    write_report(tmp_path, crossing.OURS_RESTORED, pipe_full="failure", flock="")
    write_report(tmp_path, crossing.CRIUS_RESTORED, pipe_full="", flock="", zombies="")
    write_report(tmp_path, crossing.CONTROL, pipe_full="", zombies="failure")
    table, as_expected = crossing.judge(tmp_path, ["flock.py", "pipe_full.py", "zombies.py"])
    assert [line.split() for line in table.splitlines()[1:]] == [
        ["pipe_full.py", "failed", "passed", "passed"],
        ["zombies.py", "left", "out", "passed", "failed"],
    ]
    assert as_expected


def test_a_program_that_criu_unexpectedly_manages_alone(tmp_path: Path) -> None:
    """It was left out for criu's sake, but the fault may be in our images."""
    write_report(tmp_path, crossing.CRIUS_RESTORED, zombies="")
    write_report(tmp_path, crossing.CONTROL, zombies="")
    table, as_expected = crossing.judge(tmp_path, ["zombies.py"])
    assert "zombies.py: criu alone manages it" in table
    assert not as_expected


def test_programs_that_failed_by_their_paths(tmp_path: Path) -> None:
    write_report(tmp_path, "one", pipe_full="failure", posix_timers="error", flock="", inotify_files="skipped")
    assert verdicts.read(tmp_path / "one.xml") == {
        "zdtm/static/pipe_full.py": "failed",
        "zdtm/static/posix_timers.c": "failed",
        "zdtm/static/flock.py": "passed",
        "zdtm/static/inotify_files.py": "passed",
    }
