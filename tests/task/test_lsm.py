"""Security labels, read from a made-up system, and which of them a restore gives."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import Problems
from engine.images.schema import message
from engine.kernel import lsm as kernel
from engine.restore_context import RestoredThread
from engine.task import lsm

if TYPE_CHECKING:
    from pathlib import Path


def _system(root: Path, marker: str, attributes: dict[str, str]) -> str:
    for name, text in {marker: "", **{f"proc/7/task/8/attr/{name}": text for name, text in attributes.items()}}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


_APPARMOR, _SELINUX = "sys/kernel/security/apparmor/profiles", "sys/fs/selinux/enforce"


def test_system_without_labels(tmp_path: Path) -> None:
    assert kernel.active(str(tmp_path)) == kernel.NONE
    assert kernel.label(kernel.NONE, 7, 8, root=str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("text", "profile"),
    [
        ("docker-default (enforce)\n", "docker-default"),
        ("/usr/bin/man (complain)\n", "/usr/bin/man"),
        ("with (brackets) (enforce)\n", "with (brackets)"),
        ("unconfined\n", ""),
    ],
)
@pytest.mark.parametrize("place", ["current", "apparmor/current"])
def test_apparmor(tmp_path: Path, place: str, text: str, profile: str) -> None:
    root = _system(tmp_path, _APPARMOR, {place: text})
    assert kernel.active(root) == kernel.APPARMOR
    assert kernel.label(kernel.APPARMOR, 7, 8, root=root) == profile
    assert kernel.label(kernel.APPARMOR, 7, 8, "exec", root) == ""


def test_hat(tmp_path: Path) -> None:
    root = _system(tmp_path, _APPARMOR, {"current": "web//hat (enforce)\n"})
    assert kernel.way_back(kernel.APPARMOR, 7, 8, root) == ""
    _system(tmp_path, _APPARMOR, {"prev": "web (enforce)\n"})
    assert kernel.way_back(kernel.APPARMOR, 7, 8, root) == "web"


def test_selinux(tmp_path: Path) -> None:
    context = "system_u:system_r:container_t:s0:c1,c2"
    root = _system(tmp_path, _SELINUX, {"current": context + "\0", "sockcreate": "a:b:c:s0\n"})
    assert kernel.active(root) == kernel.SELINUX
    assert kernel.label(kernel.SELINUX, 7, 8, root=root) == context
    labels = {name: kernel.label(kernel.SELINUX, 7, 8, name, root) for name in kernel.FUTURE[kernel.SELINUX]}
    assert labels == {"sockcreate": "a:b:c:s0", "exec": "", "fscreate": "", "keycreate": ""}


def test_context_that_no_policy_knows(tmp_path: Path) -> None:
    assert not kernel.context_is_known("a:b:c:s0", _system(tmp_path, _SELINUX, {}))
    problems = Problems()
    wanted, _ = _wanted(kernel.SELINUX, None, problems)
    for what in ("it", "unix socket (file 7)"):
        wanted.check_context("no:such:context", what)
    assert len(problems.reasons) == 2
    assert "unix socket (file 7) has the context no:such:context" in problems.reasons[1]


def test_labels_to_come() -> None:
    wanted, thread = _wanted(kernel.SELINUX, None, Problems())
    thread.core.thread_core.creds.lsm_fscreate = "u:object_r:t:s0"
    assert wanted.future_labels(thread) == {"fscreate": "u:object_r:t:s0"}


def _wanted(images: int, option: str | None, problems: Problems) -> tuple[lsm.Wanted, RestoredThread]:
    context: Any = SimpleNamespace(lsm=images, opts=SimpleNamespace(lsm_profile=option), problems=problems)
    core = message("core_entry")()
    core.thread_core.creds.lsm_profile = "of the image"
    return lsm.Wanted(context), RestoredThread(8, core)


@pytest.mark.parametrize(
    ("images", "option", "kind", "label"),
    [
        (kernel.APPARMOR, None, kernel.APPARMOR, "of the image"),
        (kernel.APPARMOR, "none", kernel.NONE, ""),
        (kernel.APPARMOR, "apparmor:mine", kernel.APPARMOR, "mine"),
        (kernel.NONE, "selinux:u:r:t:s0", kernel.SELINUX, "u:r:t:s0"),
    ],
)
def test_wanted_labels(images: int, option: str | None, kind: int, label: str) -> None:
    problems = Problems()
    wanted, thread = _wanted(images, option, problems)
    assert (wanted.kind, wanted.label(thread)) == (kind, label)
    assert not problems


def test_option_that_names_no_module() -> None:
    problems = Problems()
    _wanted(kernel.APPARMOR, "smack:x", problems)
    assert "smack:x: is no security profile" in "; ".join(problems.reasons)
