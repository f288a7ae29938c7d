"""Configuration files: their syntax, their order, and their errors."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine import config
from engine.argv import parse
from engine.option import OptionError


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home directory; its .criu exists."""
    (tmp_path / ".criu").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(config, "SYSTEM_FILE", str(tmp_path / "system.conf"))
    monkeypatch.delenv("CRIU_CONFIG_FILE", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("line", "parsed"),
    [
        ("", None),
        ("   \t ", None),
        ("# all of it", None),
        ("  #tcp-close", None),
        ("tcp-close", ("tcp-close", None)),
        ("tcp-close#comment", ("tcp-close", None)),
        ("tcp-close\t# comment", ("tcp-close", None)),
        ("\tno-tcp-close  ", ("no-tcp-close", None)),
        ("ghost-limit 4M", ("ghost-limit", "4M")),
        ("ghost-limit=4M", ("ghost-limit", "4M")),
        ("ghost-limit = 4M", ("ghost-limit", "4M")),
        ("ghost-limit\t4M # big", ("ghost-limit", "4M")),
        ("ghost-limit 4M\r", ("ghost-limit", "4M")),
        ("veth-pair a=b", ("veth-pair", "a=b")),
        ('log-file "a b # c"', ("log-file", "a b # c")),
        ('log-file="a \\" b"#c', ("log-file", 'a " b')),
        ('log-file ""', ("log-file", "")),
        ('log-file "a\\b"', ("log-file", "a\\b")),
    ],
)
def test_lines(line: str, parsed: tuple[str, str | None] | None) -> None:
    assert config.parse_line(line) == parsed


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("root /a b", "root: excess word b after its value (values with blanks need quotes)"),
        ('root "/a" "b"', 'root: excess word "b" after its value (values with blanks need quotes)'),
        ('root "/a', "the closing quote is missing"),
        ("= x", "no option name before = x"),
        ("root =", "root: no value after ="),
    ],
)
def test_lines_that_are_wrong(line: str, error: str) -> None:
    with pytest.raises(OptionError) as caught:
        config.parse_line(line)
    assert caught.value.message == error


@given(
    st.from_regex(r"[a-z][a-z-]*", fullmatch=True),
    st.text(st.characters(exclude_characters="\n\\\0", codec="utf-8")),
    st.sampled_from([" ", "\t", "=", " = ", "  "]),
    st.sampled_from(["", " ", "  # comment", "#"]),
)
def test_a_quoted_value_comes_back(name: str, value: str, separator: str, end: str) -> None:
    quoted = value.replace('"', '\\"')
    assert config.parse_line(f'{name}{separator}"{quoted}"{end}') == (name, value)


@given(st.text())
def test_no_line_crashes_the_parser(line: str) -> None:
    try:
        config.parse_line(line)
    except OptionError as exc:
        assert exc.message


def test_later_files_win_and_the_command_line_over_all(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "system.conf").write_text("timeout 1\nlog-file system\nroot /system\nexternal a\ntcp-close\n")
    (home / ".criu/default.conf").write_text("timeout 2\nlog-file home\nexternal b\n")
    (home / "extra.conf").write_text("timeout 3\nexternal c\n")
    monkeypatch.setenv("CRIU_CONFIG_FILE", str(home / "extra.conf"))
    opts = parse("check --timeout 4 --external d --no-tcp-close".split())
    assert (opts.timeout, opts.log_file, opts.root) == (4, "home", "/system")
    assert opts.external == ["a", "b", "c", "d"]
    assert not opts.tcp_close


def test_config_takes_the_place_of_the_default_files(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "system.conf").write_text("timeout 1\n")
    (home / "mine.conf").write_text("log-file mine\n")
    (home / "extra.conf").write_text("root /extra\n")
    monkeypatch.setenv("CRIU_CONFIG_FILE", str(home / "extra.conf"))
    opts = parse(["check", "--config", str(home / "mine.conf")])
    assert (opts.timeout, opts.log_file, opts.root) == (10, "mine", "/extra")


def test_no_default_config_leaves_the_environment_s_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "system.conf").write_text("timeout 1\n")
    (home / "extra.conf").write_text("root /extra\n")
    monkeypatch.setenv("CRIU_CONFIG_FILE", str(home / "extra.conf"))
    opts = parse("check --no-default-config".split())
    assert (opts.timeout, opts.root) == (10, "/extra")


def test_a_missing_file_is_passed_over() -> None:
    assert parse("check --config /nonexistent".split()).command == "check"


def test_options_that_are_not_given_stay_not_given(home: Path) -> None:
    (home / "system.conf").write_text("tcp-close\n")
    assert parse(["check"]).given == {"tcp_close"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("nonsense", "unknown option --nonsense, see --help"),
        ("tcp-close yes", "--tcp-close takes no argument"),
        ("no-tcp-close yes", "--no-tcp-close takes no argument"),
        ("root", "--root needs an argument: DIR"),
        ("ghost-limit 5X", "--ghost-limit 5X: not a decimal number"),
        ("config /a", "config works on the command line only"),
        ("a b c", "a: excess word c after its value (values with blanks need quotes)"),
    ],
)
def test_errors_name_file_and_line(home: Path, line: str, error: str) -> None:
    path = home / "system.conf"
    path.write_text(f"# first\n\n{line}\n")
    with pytest.raises(OptionError) as caught:
        parse(["check"])
    assert caught.value.message == f"{path}:3: {error}"


def test_a_directory_is_no_configuration_file(home: Path) -> None:
    with pytest.raises(OptionError, match="cannot be read: Is a directory"):
        parse(["check", "--config", str(home)])
