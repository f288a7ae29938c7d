"""cpuinfo.img: written, read again, and compared with a processor that lacks something."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from engine import cpuinfo
from engine.errors import CrError, Refused
from engine.images.directory import ImageDir
from engine.kernel import libc
from engine.option_values import CPU_CAP_ALL, CPU_CAP_CPU, CPU_CAP_FPU, CPU_CAP_INS
from engine.options import Options

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="the image has no entry for other processors")

VMX = 1 << 5  # word 4: nothing that a program could use


@pytest.fixture
def images(tmp_path: Path) -> ImageDir:
    """A directory with cpuinfo.img of this processor."""
    images = ImageDir(str(tmp_path))
    cpuinfo.write(images)
    return images


def alter(images: ImageDir, **changes: Any) -> None:
    """Change fields of cpuinfo.img. words: {index: bits to turn over}."""
    entry = images.read_one("CPUINFO")
    x86 = entry.x86_entry[0]
    for word, bits in changes.pop("words", {}).items():
        x86.capability[word] ^= bits
    for name, value in changes.items():
        setattr(x86, name, value)
    images.write("CPUINFO", entry)


def flags() -> set[str]:
    with open("/proc/cpuinfo") as file:
        line = next(line for line in file if line.startswith("flags"))
    return set(line.split(":")[1].split())


def test_the_image_describes_this_processor(images: ImageDir) -> None:
    x86 = images.read_one("CPUINFO").x86_entry[0]
    with open("/proc/cpuinfo") as file:
        told = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in file)}
    assert (x86.cpu_family, x86.model) == (int(told["cpu family"]), int(told["model"]))
    assert x86.stepping == int(told["stepping"])
    assert x86.model_id == told["model name"]
    assert (x86.capability_ver, len(x86.capability)) == (2, 19)
    assert x86.xsave_size <= x86.xsave_size_max
    assert x86.xfeatures_mask & 3 == 3


def test_instructions_are_those_the_kernel_names(images: ImageDir) -> None:
    """Names of ours that the kernel uses too must agree with it, in both directions."""
    from engine.kernel.cpu_x86 import INSTRUCTIONS

    words = images.read_one("CPUINFO").x86_entry[0].capability
    ours = {}
    for word, entries in INSTRUCTIONS.items():
        for entry in entries.split():
            name, bit = entry.split(":")
            ours[name] = bool(words[word] >> int(bit) & 1)
    kernel = flags()
    there = {name for name, has in ours.items() if has}
    assert kernel & set(ours) <= there
    assert {"fpu", "sse2", "syscall"} <= there & kernel


def test_the_same_processor_fits(images: ImageDir) -> None:
    assert cpuinfo.check_cpu(images, CPU_CAP_ALL) == []


def test_instructions_that_are_missing_here_are_named(images: ImageDir) -> None:
    words = images.read_one("CPUINFO").x86_entry[0].capability
    absent = next(bit for bit in (26, 27, 16, 28) if not words[9] >> bit & 1)  # avx512pf, avx512er, ...
    alter(images, words={9: 1 << absent})
    (reason,) = cpuinfo.check_cpu(images, CPU_CAP_INS)
    assert reason.startswith("this processor lacks instructions that the images' had: avx512")
    assert cpuinfo.check_cpu(images, CPU_CAP_FPU) == []
    assert len(cpuinfo.check_cpu(images, CPU_CAP_ALL)) == 2


def test_more_features_than_the_images_have_are_fine_unless_all_must_match(images: ImageDir) -> None:
    alter(images, words={0: 1 << 26})
    assert cpuinfo.check_cpu(images, CPU_CAP_FPU | CPU_CAP_INS) == []
    (reason,) = cpuinfo.check_cpu(images, CPU_CAP_CPU)
    assert "are not those of the images'" in reason


def test_features_no_program_uses_matter_only_for_cpu(images: ImageDir) -> None:
    alter(images, words={4: VMX})
    assert cpuinfo.check_cpu(images, CPU_CAP_FPU | CPU_CAP_INS) == []
    assert cpuinfo.check_cpu(images, CPU_CAP_CPU)


def test_state_components_must_be_restorable(images: ImageDir) -> None:
    alter(images, xfeatures_mask=1 << 40 | 3)
    (reason,) = cpuinfo.check_cpu(images, CPU_CAP_FPU)
    assert "XSAVE state components 0x10000000000 " in reason


def test_version_1_says_less(images: ImageDir) -> None:
    entry = images.read_one("CPUINFO")
    x86 = entry.x86_entry[0]
    x86.capability_ver = 1
    del x86.capability[12:]
    images.write("CPUINFO", entry)
    assert cpuinfo.check_cpu(images, CPU_CAP_ALL) == []


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"capability_ver": 3}, "capability version 3"),
        ({"capability_ver": 1}, "has 19 capability words, version 1 has 12"),
    ],
)
def test_images_that_make_no_sense(images: ImageDir, change: dict[str, Any], error: str) -> None:
    alter(images, **change)
    with pytest.raises(CrError, match=error):
        cpuinfo.check_cpu(images, CPU_CAP_ALL)


def test_images_of_another_architecture(images: ImageDir) -> None:
    entry = images.read_one("CPUINFO")
    del entry.x86_entry[:]
    entry.s390_entry.add()
    images.write("CPUINFO", entry)
    with pytest.raises(CrError, match="of another architecture"):
        cpuinfo.check_cpu(images, CPU_CAP_ALL)


def test_other_machines_are_told_that_there_is_no_entry(images: ImageDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libc, "MACHINE", "aarch64")
    for verb in (lambda: cpuinfo.write(images), lambda: cpuinfo.check_cpu(images, CPU_CAP_ALL)):
        with pytest.raises(CrError, match="no entry for aarch64"):
            verb()


def command(tmp_path: Path, word: str) -> int:
    opts = Options()
    opts.words = [word]
    opts.images_dir_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        return cpuinfo.run(opts)
    finally:
        os.close(opts.images_dir_fd)


def test_the_verb(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CrError, match="is missing"):
        command(tmp_path, "check")
    assert command(tmp_path, "dump") == 0
    assert command(tmp_path, "check") == 0
    alter(ImageDir(str(tmp_path)), xfeatures_mask=1 << 40)
    with pytest.raises(Refused):
        command(tmp_path, "check")


def test_a_dump_that_fails_exits_with_255(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(libc, "MACHINE", "aarch64")
    assert command(tmp_path, "dump") == 255
    assert "no entry for aarch64" in capfd.readouterr().err
