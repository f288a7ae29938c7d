"""Which context of SELinux each socket gets, on a system that need not have it."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import Problems
from engine.images.schema import message
from engine.kernel import lsm
from engine.objects import socket_label
from engine.objects.socket_label import SocketLabels
from engine.parts import Parts
from engine.tape.tape import Tape

CONTEXT, OTHER = "u:r:one_t:s0", "u:r:other_t:s0:c1"


class _Context(Parts):
    """Of a restore: a task with a socket (file 3) and a file, and a socket in flight (file 5)."""

    def __init__(self, kind: int) -> None:
        super().__init__()
        self.lsm, self.problems, self.opts = kind, Problems(), SimpleNamespace(lsm_profile=None)
        required = {"flags": 0, "type": "UNIXSK"}
        held = [
            message("fdinfo_entry")(id=3, fd=0, xattr_security_selinux=CONTEXT, **required),
            message("fdinfo_entry")(id=4, fd=1, flags=0, type="REG"),
        ]
        self.tasks = [SimpleNamespace(fdinfo=held)]
        self.entries = {number: message("file_entry")(id=number, type="UNIXSK") for number in (3, 4, 5)}
        self.entries[5].usk.selinux_context = OTHER


def _labels(kind: int = lsm.SELINUX) -> tuple[SocketLabels, _Context]:
    context = _Context(kind)
    any_context: Any = context
    return SocketLabels(any_context), context


@pytest.fixture
def wanted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the engine has wanted for new sockets, one after the other."""
    said: list[str] = []
    monkeypatch.setattr(lsm, "set_socket_context", said.append)
    return said


def test_contexts_of_the_images() -> None:
    labels, _ = _labels()
    assert [labels.of(number) for number in (3, 4, 5, 6)] == [CONTEXT, "", OTHER, ""]


def test_other_modules_have_none(wanted: list[str]) -> None:
    labels, _ = _labels(lsm.APPARMOR)
    os.close(labels.new_socket(3, 1))
    assert wanted == []


def test_a_socket_is_born_with_its_context(wanted: list[str]) -> None:
    labels, _ = _labels()
    for number in (3, 4):
        os.close(labels.new_socket(number, 1))
    assert wanted == [CONTEXT, ""]


def test_the_usual_context_is_back_after_a_failure(wanted: list[str]) -> None:
    labels, _ = _labels()
    with pytest.raises(OSError, match=r"not supported|Invalid"):
        labels.new_socket(3, 99)
    assert wanted == [CONTEXT, ""]


def test_a_stub_wants_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, _ = _labels()
    said: list[tuple[str, str]] = []
    monkeypatch.setattr(socket_label, "give_proc", lambda *_: 7)
    monkeypatch.setattr(socket_label, "set_attribute", lambda tape, proc, name, text: said.append((name, text)))
    stub: Any = None
    with labels.giving_in(stub, Tape(), 5):
        said.append(("socketpair", ""))
    assert said == [("sockcreate", OTHER), ("socketpair", ""), ("sockcreate", "")]


def test_a_context_that_no_policy_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    labels, context = _labels()
    monkeypatch.setattr(lsm, "active", lambda: lsm.SELINUX)
    monkeypatch.setattr(lsm, "context_is_known", lambda label: label == CONTEXT)
    for number in (3, 4, 5):
        labels.check(number, f"unix socket (file {number})")
    (reason,) = context.problems.reasons
    assert f"unix socket (file 5) has the context {OTHER}" in reason


@pytest.mark.parametrize(("got", "warnings"), [(CONTEXT, 0), (OTHER, 1)])
def test_a_context_that_could_not_be_given(monkeypatch: pytest.MonkeyPatch, got: str, warnings: int) -> None:
    labels, _ = _labels()
    said: list[str] = []
    monkeypatch.setattr("engine.log.warn", said.append)
    monkeypatch.setattr(os, "getxattr", lambda fd, name: got.encode() + b"\0")
    labels.verify(3, 0)
    labels.verify(4, 0)
    assert len(said) == warnings
