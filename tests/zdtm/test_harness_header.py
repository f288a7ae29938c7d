"""Headers of programs: what they say, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from zdtm.harness import header, needs

PROGRAMS = sorted(path for path in (Path(header.__file__).parent.parent).glob("*/*") if header.is_program(path))

FULL = '''"""A pipe is full
to the brim.

Prose may follow: here is some.

states: pipes/full, pipes/size,
    pipes/both
flavours: h, ns
options: --link-remap
dump-options: --external 'file[a b]'
restore-options: --tcp-close
needs: root, feature timens
modes: not iters: it can be done once
modes: not snapshot: for another reason
oracle: ignore memory: it spins
cflags: -lrt -O0
"""
'''


def program(tmp_path: Path, text: str, name: str = "p.py") -> header.Program:
    path = tmp_path / name
    path.write_text(text)
    return header.read(path)


def test_all_keys(tmp_path: Path) -> None:
    read = program(tmp_path, FULL)
    assert read.summary == "A pipe is full to the brim."
    assert read.states == ("pipes/full", "pipes/size", "pipes/both")
    assert read.flavours == ("h", "ns")
    assert read.dump_options == ("--link-remap", "--external", "file[a b]")
    assert read.restore_options == ("--link-remap", "--tcp-close")
    assert read.needs == ("root", "feature timens")
    assert read.modes == [mode for mode in header.MODES if mode not in ("iters", "snapshot", "snapshot-cow")]
    assert read.without_modes == {"iters": "it can be done once", "snapshot": "for another reason"}
    assert read.oracle_ignores == {"memory": "it spins"}
    assert read.cflags == ("-lrt", "-O0")


def test_c_comment(tmp_path: Path) -> None:
    read = program(tmp_path, "/*\n * Threads.\n *\n * states: a/b,\n *     c/d\n * cflags: -lm\n */\nint x;\n", "p.c")
    assert (read.summary, read.states, read.cflags) == ("Threads.", ("a/b", "c/d"), ("-lm",))


def test_one_sentence_is_enough(tmp_path: Path) -> None:
    read = program(tmp_path, '"""One pipe."""\n')
    assert read.modes == list(header.MODES)
    assert read.flavours == ("h",)
    assert read.refusal is None


@pytest.mark.parametrize(("line", "pattern"), [("refuse", ""), ("refuse no .* here", "no .* here")])
def test_expect_refuse(tmp_path: Path, line: str, pattern: str) -> None:
    read = program(tmp_path, f'"""X.\n\nexpect: {line}\n"""\n')
    assert read.refusal == pattern
    assert read.modes == ["nocr", "cli"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "has no header"),
        ('"""X.\n\nstates: a/b\nstats: b\n"""\n', "unknown key in the header: stats: b"),
        ('"""X.\n\nmodes: not iters\n"""\n', 'should read "modes: not NAME: reason"'),
        ('"""X.\n\nmodes: not nope: why\n"""\n', "unknown modes: nope"),
        ('"""X.\n\noracle: ignore memory:\n"""\n', 'should read "oracle: ignore NAME: reason"'),
        ('"""X.\n\noracle: ignore colour: why\n"""\n', "unknown kinds for the oracle: colour"),
        ('"""X.\n\nflavours: x\n"""\n', "unknown flavours: x"),
        ('"""X.\n\nexpect: refuse (\n"""\n', "bad regex"),
        ('"""X.\n\nexpect: joy\n"""\n', "can be given once"),
        ('"""X.\n\noutside: A\noutside: B\n"""\n', "names a class"),
    ],
)
def test_bad_headers(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(header.BadHeader, match="p.py") as caught:
        program(tmp_path, text)
    assert message in str(caught.value)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.name)
def test_every_program_has_a_good_header(path: Path) -> None:
    read = header.read(path)
    assert read.summary.endswith(".")
    assert read.states or read.refusal is not None
    assert isinstance(needs.unmet(read.needs), str | None)


def test_an_unknown_need_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown need"):
        needs.unmet(("roots",))
    with pytest.raises(ValueError, match="unknown feature"):
        needs.unmet(("feature flying",))


def test_needs(tmp_path: Path) -> None:
    assert needs.unmet(()) is None
    assert needs.unmet(("tool sh", "file /proc")) is None
    assert needs.unmet(("tool sh", "tool no-such-tool")) == "needs tool no-such-tool"
    assert needs.unmet(("arch vax pdp11",)) == "needs arch vax pdp11"
