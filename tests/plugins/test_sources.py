"""Where plugins are loaded from, and where they are not."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from engine.errors import Refused
from engine.options import OPTIONS, Options
from engine.plugins import sources
from tests.plugins.conftest import PERF

if TYPE_CHECKING:
    from pathlib import Path

    from tests.plugins.conftest import Place

PLUGIN = "def dump_ext_file(fd, number): return b'1'\n"
NOBODY = 65534


def options(libdir: object) -> Options:
    opts = Options()
    opts.use(OPTIONS["libdir"], str(libdir))
    return opts


def names(libdir: object) -> list[str]:
    return [plugin.name for plugin in sources.load(options(libdir), "dump")]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    found = tmp_path / "plugins"
    found.mkdir(mode=0o755)
    (found / "one.py").write_text(PLUGIN)
    return found


def test_files(directory: Path) -> None:
    for name in ("_private.py", "no-name.py", "two.txt", "__init__.py"):
        (directory / name).write_text("raise Exception")
    (directory / "two.py").write_text(PLUGIN)
    assert names(directory) == ["one", "two"]
    assert not (directory / "__pycache__").exists()


def test_module_can_have_data_classes(directory: Path) -> None:
    (directory / "one.py").write_text(
        "from __future__ import annotations\nimport dataclasses\n@dataclasses.dataclass\nclass A:\n    b: int\n"
    )
    assert names(directory) == ["one"]


def test_library_is_named_and_passed_over(place: Place) -> None:
    place.start("import os, time")
    (place.plugins / "amdgpu_plugin.so").write_bytes(b"\x7fELF")
    assert place.dump() == 0
    assert f"plugin {place.plugins}/amdgpu_plugin.so is passed over: plugins of this engine are in Python" in place.log


def test_directory_must_be_there_if_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Refused, match=r"plugin directory /nowhere: No such file or directory \(see --libdir\)"):
        names("/nowhere")
    opts = Options()
    opts.libdir = "/nowhere"
    assert sources.load(opts, "dump") == []
    monkeypatch.setenv("CRIU_LIBS_DIR", "/nowhere")
    with pytest.raises(Refused, match="plugin directory /nowhere"):
        sources.load(opts, "dump")


def test_relative_directory_is_not_looked_for_among_the_images(place: Place) -> None:
    """Commands work in the directory of the images."""
    place.start(PERF)
    hostile = place.images / "evil"
    hostile.mkdir()
    (hostile / "evil.py").write_text(PLUGIN)
    assert any("plugin directory" in error for error in place.refused("--libdir", "evil"))


@pytest.mark.parametrize("what", ["directory", "file", "parent"])
@pytest.mark.parametrize("how", ["others may write", "a group may write", "somebody else's"])
def test_what_others_can_write_to_is_refused(directory: Path, what: str, how: str) -> None:
    path = {"directory": directory, "file": directory / "one.py", "parent": directory.parent}[what]
    if how == "somebody else's":
        os.chown(path, NOBODY, 0)
    elif how == "others may write":
        path.chmod(0o757)
    else:
        os.chown(path, 0, 100)
        path.chmod(0o775)
    says = "belongs to user 65534" if how == "somebody else's" else r"can be written to by others \(mode 7[57][57]\)"
    with pytest.raises(Refused, match=f"{path} {says}"):
        names(directory)


def test_link_to_what_others_can_write_to(directory: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "two.py").write_text(PLUGIN)
    elsewhere.chmod(0o777)
    (directory / "two.py").symlink_to(elsewhere / "two.py")
    with pytest.raises(Refused, match=f"plugin two: {elsewhere} can be written to by others"):
        names(directory)


def test_all_that_is_wrong_is_said(directory: Path) -> None:
    (directory / "two.py").write_text("def broken(")
    (directory / "three.py").write_text("raise OSError('no device')")
    (directory / "four.py").mkdir()
    with pytest.raises(Refused) as caught:
        names(directory)
    four, three, two = sorted(caught.value.reasons)
    assert "plugin four" in four
    assert three == f"plugin three: {directory}/three.py can't be loaded: OSError: no device"
    assert "two.py can't be loaded: SyntaxError: " in two


def test_packages(tmp_path: Path, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points of installed packages."""
    site = tmp_path / "site"
    for package, text in {
        "good-1.dist-info": "[scripts]\nx = y:z\n[crucible.plugins]\n# x\ngood = its_module:one.two\n[x]\na = b\n",
        "other-1.dist-info": "[console_scripts]\ngood = nothing\n",
        "none-1.dist-info": None,
    }.items():
        (site / package).mkdir(parents=True)
        if text is not None:
            (site / package / "entry_points.txt").write_text(text)
    (site / "its_module.py").write_text("class one:\n    class two:\n        def dump_ext_file(*_): return b'2'\n")
    monkeypatch.syspath_prepend(str(site))
    assert list(sources.entry_points()) == [("good", "its_module:one.two")]
    good, one = sorted(sources.load(options(directory), "dump"), key=lambda plugin: plugin.name)
    assert good.call("DUMP_EXT_FILE", "a file", 0, 0) == b"2"
    (directory / "good.py").write_text(PLUGIN)
    with pytest.raises(Refused, match=r"plugin good: is there twice, .*/good.py and its_module:one.two"):
        names(directory)


def test_current_directory_has_no_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is that of the images."""
    package = tmp_path / "evil-1.dist-info"
    package.mkdir()
    (package / "entry_points.txt").write_text("[crucible.plugins]\nevil = os\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    assert list(sources.entry_points()) == []


def test_hooks_that_are_never_called_are_named(place: Place) -> None:
    place.start("import os, time")
    place.plugin("mounts", "def dump_ext_mount(path, number): pass")
    assert place.dump() == 0
    assert "plugin mounts: its hook DUMP_EXT_MOUNT is never called by this engine" in place.log


def test_looking_for_plugins_loads_nothing() -> None:
    """importlib.metadata would take 100 ms."""
    look = (
        "import sys, contextlib, typing, engine.options, engine.log\n"
        "before = set(sys.modules)\n"
        "from engine.plugins import running\n"
        "with running(engine.options.Options(), 'dump'): print(sorted(set(sys.modules) - before))"
    )
    loaded = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "['engine.plugins', 'engine.plugins.sources']"
