"""AppArmor's namespaces there and back, in a made-up directory that stands for the kernel's."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import CrError, Problems
from engine.images.schema import message
from engine.kernel import apparmor as kernel
from engine.kernel.apparmor import Policy, Profile
from engine.task.apparmor import DumpedPolicies, RestoredPolicies


def _blob(content: str, namespace: str = "") -> bytes:
    blob = b"\x04\x08\0version\0\x02" + bytes(4)
    if namespace:
        blob += b"\x04\x0a\0namespace\0\x05" + struct.pack("<H", len(namespace) + 1) + namespace.encode() + b"\0"
    return blob + content.encode()


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of a kernel with one profile, that goes by `docker`."""
    monkeypatch.setattr(kernel, "DIRECTORY", str(tmp_path))
    (tmp_path / "policy/namespaces").mkdir(parents=True)
    (tmp_path / "profiles").write_text("docker (enforce)\n:box:inner (complain)\n:box//deep:part//kid (enforce)\n")
    return tmp_path / "policy"


def _namespace(policy: Path, *names: str, profiles: dict[str, tuple[int, bytes]]) -> Path:
    """profiles: name -> (revision, what was loaded)"""
    directory = policy.joinpath(*(part for name in names for part in ("namespaces", name)))
    for below in ("namespaces", "profiles", "raw_data"):
        (directory / below).mkdir(parents=True)
    for number, (name, (revision, blob)) in enumerate(profiles.items()):
        data = directory / "raw_data" / str(number)
        data.mkdir()
        (data / "raw_data").write_bytes(blob)
        (data / "revision").write_text(f"{revision}\n")
        _profile(directory, f"{name}.{number}", number)
    return directory


def _profile(directory: Path, entry: str, number: int, above: str = "") -> None:
    """above: the entry of the profile that this one is a part of"""
    profile = directory / "profiles" / above / ("profiles" if above else "") / entry
    profile.mkdir(parents=True)
    (profile / "name").write_text(f"{entry.partition('.')[0]}\n")
    (profile / "raw_data").symlink_to("../" * (4 if above else 2) + f"raw_data/{number}/raw_data")


@pytest.mark.parametrize(
    ("label", "profiles"),
    [
        ("docker", [Profile((), "docker")]),
        ("/usr/bin/man//filter", [Profile((), "/usr/bin/man//filter")]),
        ("a//&b", [Profile((), "a"), Profile((), "b")]),
        (":box:inner", [Profile(("box",), "inner")]),
        ("a//&:box:x//&y//part", [Profile((), "a"), Profile(("box",), "x"), Profile(("box",), "y//part")]),
        (":box//deep:x//&:other://y", [Profile(("box", "deep"), "x"), Profile(("other",), "y")]),
    ],
)
def test_labels(label: str, profiles: list[Profile]) -> None:
    assert kernel.profiles_of(label) == profiles


def test_what_is_loaded(system: Path) -> None:
    names = {Profile((), "docker"), Profile(("box",), "inner"), Profile(("box", "deep"), "part//kid")}
    assert kernel.loaded() == names
    assert {str(profile) for profile in names} == {"docker", ":box:inner", ":box//deep:part//kid"}


@pytest.mark.parametrize("namespace", ["", "box", "a-much-longer-name"])
def test_namespace_that_profiles_name(namespace: str) -> None:
    assert kernel.namespace_of(_blob("rules", namespace)) == (namespace or None)


@pytest.mark.parametrize("size", range(len(_blob("", "box"))))
def test_cut_profiles_are_no_danger(size: int) -> None:
    assert kernel.namespace_of(_blob("", "box")[:size]) in (None, "", "b", "bo", "box")


class _Images:
    """apparmor.img in memory."""

    def __init__(self, entry: Any = None) -> None:
        self.entry = entry

    def write(self, kind: str, entry: Any) -> None:
        assert kind == "APPARMOR"
        self.entry = entry

    def exists(self, kind: str) -> bool:
        return self.entry is not None

    def read_one(self, kind: str) -> Any:
        return self.entry


class _Restore:
    """The context of a restore, as far as policies use it."""

    def __init__(self, entry: Any) -> None:
        self.images, self.problems = _Images(entry), Problems()
        self.ended: list[Any] = []
        self.succeeded: list[Any] = []
        self.at_end, self.on_success = self.ended.append, self.succeeded.append
        any_self: Any = self
        self.policies = RestoredPolicies(any_self)


def _dump(*labels: str) -> tuple[DumpedPolicies, Problems]:
    context: Any = SimpleNamespace(problems=Problems())
    dumped = DumpedPolicies(context)
    task: Any = SimpleNamespace(pid=7)
    for label in labels:
        dumped.collect(label, task)
    return dumped, context.problems


def _dumped(system: Path) -> Any:
    """apparmor.img of two namespaces, which are gone then."""
    _namespace(system, "box", profiles={"new": (9, _blob("new", "box")), "old": (2, _blob("old"))})
    _namespace(system, "box", "deep", profiles={"below": (3, _blob("below"))})
    dumped, problems = _dump("docker//&:box:old", ":box//deep:below")
    assert not problems
    shutil.rmtree(system / "namespaces/box")
    return message("apparmor_entry")(namespaces=dumped.namespaces.values())


def test_namespaces_are_dumped_whole_and_in_the_order_of_loading(system: Path) -> None:
    (box,) = _dumped(system).namespaces
    assert (box.name, [policy.name for policy in box.policies]) == ("box", ["old", "new"])
    (deep,) = box.namespaces
    assert (deep.name, [policy.blob for policy in deep.policies]) == ("deep", [_blob("below")])


def test_profiles_that_the_kernel_does_not_keep(system: Path) -> None:
    directory = _namespace(system, "box", profiles={"inner": (1, b"")})
    shutil.rmtree(directory / "raw_data")
    _, problems = _dump(":box:inner")
    assert "AppArmor's namespace box can't be read" in problems.reasons[0]


@pytest.fixture
def creating(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Namespaces come with what the kernel puts into them."""
    monkeypatch.setattr(kernel, "create", lambda namespace: _namespace(system, *namespace, profiles={}))


@pytest.mark.usefixtures("creating")
def test_restore_makes_what_is_not_there(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    restore = _Restore(_dumped(system))
    loads: list[tuple[tuple[str, ...], bytes]] = []
    removed: list[tuple[str, ...]] = []
    monkeypatch.setattr(kernel, "load", lambda namespace, blob: loads.append((namespace, blob)))
    monkeypatch.setattr(kernel, "remove", removed.append)
    for label in ("docker//&:box:old", ":box:new", ":box//deep:unconfined"):
        restore.policies.check(label, 7)
    assert not restore.problems
    restore.policies.load()
    restore.policies.load()
    deep = ("box", "deep")
    assert loads == [(("box",), _blob("old")), (("box",), _blob("new", "box")), (deep, _blob("below"))]
    restore.ended[0]()
    assert removed == [deep, ("box",)]


@pytest.mark.usefixtures("creating")
def test_what_was_restored_stays(system: Path) -> None:
    restore = _Restore(_dumped(system))
    restore.policies.load()
    restore.succeeded[0]()
    restore.ended[0]()
    assert (system / "namespaces/box/.replace").read_bytes() == _blob("old")
    assert (system / ".replace").read_bytes() == _blob("new", "box")
    assert (system / "namespaces/box/namespaces/deep/.replace").read_bytes() == _blob("below")


def test_profiles_that_are_nowhere(system: Path) -> None:
    restore = _Restore(None)
    for label in ("docker//&missing", ":box:inner", ":no:unconfined"):
        restore.policies.check(label, 7)
    assert len(restore.problems.reasons) == 2
    assert "AppArmor's profile missing, which is not loaded here" in restore.problems.reasons[0]
    assert "AppArmor's profile :no:unconfined" in restore.problems.reasons[1]


def test_profiles_for_another_namespace_are_refused(system: Path) -> None:
    entry = message("apparmor_entry")()
    entry.namespaces.add(name="box").policies.add(name="x", blob=_blob("x", "other"))
    _namespace(system, "box", profiles={})
    with pytest.raises(CrError, match="profiles of namespace box: they are for namespace other"):
        _Restore(entry).policies.load()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "/etc", "a\0b"])
def test_names_that_lead_elsewhere_are_damage(system: Path, name: str) -> None:
    entry = message("apparmor_entry")()
    entry.namespaces.add(name="box").namespaces.add(name=name)
    assert "the image is damaged" in _Restore(entry).problems.reasons[0]


def test_profiles_added_to_a_namespace_go_again(system: Path) -> None:
    """A restore that fails takes back what it has added to a namespace that was there."""
    entry = message("apparmor_entry")()
    box = entry.namespaces.add(name="box")
    for name in ("inner", "more"):
        box.policies.add(name=name, blob=_blob(name))
    directory = _namespace(system, "box", profiles={})
    restore = _Restore(entry)
    restore.policies.load()
    assert (directory / ".replace").read_bytes() == _blob("more")
    restore.ended[0]()
    assert (directory / ".remove").read_bytes() == b"more\0"


def test_parts_of_profiles(system: Path) -> None:
    """One was loaded with its profile, one later."""
    directory = _namespace(system, "box", profiles={"x": (1, b"x and part"), "unused": (5, b"later")})
    shutil.rmtree(directory / "profiles/unused.1")
    _profile(directory, "part.2", 0, above="x.0")
    _profile(directory, "hat.3", 1, above="x.0")
    found = [Policy("x", b"x and part"), Policy("x//part", b"x and part"), Policy("x//hat", b"later")]
    assert kernel.policies(("box",)) == found
