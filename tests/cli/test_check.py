"""check: features and their messages."""

from __future__ import annotations

import pytest

from engine import check
from engine.errors import CrError
from engine.kernel import features
from engine.options import Options


def opts(**values: object) -> Options:
    result = Options()
    for name, value in values.items():
        setattr(result, name, value)
    return result


@pytest.fixture
def lacking(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Features that the kernel is made to lack."""
    names: set[str] = set()
    monkeypatch.setattr(check, "reason_against", lambda name: "made up" if name in names else None)
    return names


def test_every_feature_is_in_one_set() -> None:
    every = [*check.NEEDED, *check.EXTRA, *check.EXPERIMENTAL]
    assert sorted(every) == sorted(features.FEATURES)


@pytest.mark.usefixtures("lacking")
def test_all_is_well(capfd: pytest.CaptureFixture[str]) -> None:
    assert check.run(opts(extra=True, experimental=True)) == 0
    assert capfd.readouterr().out == "Looks good.\n"


def test_a_needed_feature_is_missing(lacking: set[str], capfd: pytest.CaptureFixture[str]) -> None:
    lacking.add("kcmp_epoll")
    assert check.run(opts()) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "feature kcmp_epoll is missing: made up" in captured.err


@pytest.mark.parametrize(("feature", "option"), [("uffd", "extra"), ("breakpoints", "experimental")])
def test_only_an_extra_feature_is_missing(
    lacking: set[str], capfd: pytest.CaptureFixture[str], feature: str, option: str
) -> None:
    lacking.add(feature)
    assert check.run(opts()) == 0
    capfd.readouterr()
    assert check.run(opts(**{option: True})) == 1
    out = capfd.readouterr().out
    assert out.startswith("Looks good but ")
    assert out.count("\n") == 3


def test_one_feature(lacking: set[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert check.run(opts(feature="timerfd")) == 0
    assert capfd.readouterr().out == "timerfd is supported\n"
    lacking.add("uffd-noncoop")
    assert check.run(opts(feature="uffd-noncoop")) == 1
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.endswith(": feature uffd-noncoop is not supported: made up\n")


def test_an_unknown_feature_names_the_known_ones() -> None:
    with pytest.raises(CrError, match="unknown feature list; known are: mnt_id "):
        check.run(opts(feature="list"))
