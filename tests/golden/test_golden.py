"""Images that earlier engines, other kernels, other machines and another engine wrote stay readable for ever."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from ci.golden import sets
from engine.crit.decode import decode
from engine.crit.encode import encode
from engine.images.directory import ImageDir
from engine.images.pagemap import PageReader
from engine.kernel.elf_symbols import dynamic_symbols
from engine.task.tree import DEAD
from engine.task.vma import VDSO

SETS = sets.all_sets()
RAW = ("pages-",)


def named(chosen: list[sets.Golden]) -> list[object]:
    return [pytest.param(golden, id=golden.path.name.removesuffix(".tar.xz")) for golden in chosen]


@pytest.fixture
def images(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    golden: sets.Golden = request.param
    golden.unpack(tmp_path)
    return tmp_path / "images"


def test_the_sets_are_there() -> None:
    """Every scenario, of both machines, both engines and several kernels; and small."""
    assert {golden.scenario for golden in SETS} == {*sets.SCENARIOS, *sets.NEW_SCENARIOS}
    assert {golden.machine for golden in SETS} == {"x86_64", "aarch64"}
    assert {golden.engine for golden in SETS} == {"crucible", "criu"}
    common = [golden.scenario for golden in SETS if golden.scenario in sets.SCENARIOS]
    assert {common.count(scenario) for scenario in sets.SCENARIOS} == {len(common) / len(sets.SCENARIOS)}
    assert all(golden.path.stat().st_size < 32768 for golden in SETS)


def test_each_kernel_has_a_vdso_of_its_own(tmp_path: Path) -> None:
    """So restoring `clocks` on one kernel after the other leads over a bridge, to functions that are elsewhere."""
    found = set()
    clocks = [golden for golden in SETS if golden.scenario == "clocks" and golden.engine == "crucible"]
    for golden in clocks:
        place = tmp_path / golden.path.name
        golden.unpack(place)
        with ImageDir(str(place / "images")) as directory, PageReader(directory, sets.ROOT_PID) as reader:
            vdso = next(vma for vma in directory.read_one("MM", sets.ROOT_PID).vmas if vma.status & VDSO)
            ((_, nr_pages, fd, offset),) = reader.segments(vdso.start, vdso.end)
            symbols = dynamic_symbols(os.pread(fd, nr_pages * 4096, offset), golden.machine)
        found.add((golden.machine, *sorted(symbols.items())))
    assert len(found) == len(clocks) >= 5


@pytest.mark.parametrize("images", named(SETS), indirect=True)
def test_every_image_comes_back_byte_for_byte(images: Path, tmp_path: Path) -> None:
    text, again = tmp_path / "text", tmp_path / "again"
    seen = 0
    for path in sorted(images.glob("*.img")):
        if path.name.startswith(RAW):
            continue
        decode(str(path), str(text))
        encode(str(text), str(again))
        assert again.read_bytes() == path.read_bytes(), path.name
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("images", named(SETS), indirect=True)
def test_the_tree_is_whole(images: Path) -> None:
    """Inventory, tree, and for every living task its core, its memory and the pages of that, all of them there."""
    with ImageDir(str(images)) as directory:
        assert directory.read_one("INVENTORY").img_version in (1, 2)
        entries = list(directory.read("PSTREE"))
        assert entries[0].pid == sets.ROOT_PID
        for entry in entries:
            core = directory.read_one("CORE", entry.pid)
            if core.tc.task_state == DEAD:
                continue
            assert directory.read_one("MM", entry.pid).vmas
            head, *runs = directory.read("PAGEMAP", entry.pid)
            held = sum(run.nr_pages or run.compat_nr_pages for run in runs)
            assert (images / f"pages-{head.pages_id}.img").stat().st_size == held * 4096


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make tasks")
@pytest.mark.parametrize("golden", named([golden for golden in SETS if golden.machine == platform.machine()]))
def test_restored_subject_finds_its_state(golden: sets.Golden, tmp_path: Path) -> None:
    sets.restore(golden, [sys.executable, "-m", "engine"], tmp_path)


def test_unknown_version_is_refused_by_name(tmp_path: Path) -> None:
    SETS[0].unpack(tmp_path)
    with ImageDir(str(tmp_path / "images")) as directory:
        inventory = directory.read_one("INVENTORY")
        inventory.img_version = 3
        directory.write("INVENTORY", inventory)
    command = [sys.executable, "-m", "engine", "restore", "-D", str(tmp_path / "images")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "inventory.img: images of version 3 are not known to this engine" in done.stderr
    assert "Traceback" not in done.stderr
