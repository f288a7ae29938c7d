"""What ci/vm prepares for a guest, without one."""

from __future__ import annotations

import lzma
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from ci.vm import crossing, initramfs, kernels, machine, roots, suite
from ci.vm.kernels import Kernel

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


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is missing (install cpio)")
def test_initramfs_loads_modules_after_those_they_need(tmp_path: Path) -> None:
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


@pytest.mark.skipif(shutil.which("checkpolicy") is None, reason="checkpolicy is missing (install checkpolicy)")
def test_policy_for_guests_is_one(tmp_path: Path) -> None:
    """guest.sh compiles it in the same way."""
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
    assert len(runs) == 2
    ours = "-m engine'"
    for run, (dumper, restorer) in zip(runs, ((ours, "'env /criu'"), ("'env /criu'", ours)), strict=True):
        assert "zdtm/static/one.py zdtm/static/two.c" in run
        assert f"{dumper} --restore-engine" in run
        assert f"{restorer} --junitxml" in run
