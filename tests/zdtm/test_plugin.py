"""The suite as its user sees it: pytest runs programs with a fake engine, and the judges say no to its faults."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zdtm.harness.header import MODES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make namespaces")

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent

# A program that is started anew by the fake engine differs in these; the rest must be the same.
IGNORED = "maps memory mm".split()
HEADER = "".join(f"oracle: ignore {kind}: it is another process\n" for kind in IGNORED)

PROGRAM = '''"""A program.

{header}
"""
import os
from zdtm.lib.program import *

def main() -> None:
{body}
run(main)
'''

C_PROGRAM = """/* A program in C.
 *
 * oracle: ignore maps: it is another process
 * oracle: ignore memory: it is another process
 * oracle: ignore mm: it is another process
 */
#include "zdtmtst.h"

int main(int argc, char **argv)
{
	test_init(argc, argv);
	test_ready();
	return test_pass();
}
"""


class Suite:
    """A suite of its own: a directory with programs and the conftest of the real one."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "static").mkdir()
        (directory / "transition").mkdir()
        shutil.copy(CHECKOUT / "zdtm" / "conftest.py", directory)
        (directory / "pytest.ini").write_text("[pytest]\n")
        self.artifacts = directory / "artifacts"

    def add(self, name: str, body: str = "ready()", header: str = HEADER, where: str = "static") -> None:
        lines = "".join(f"    {line}\n" for line in body.splitlines())
        (self.directory / where / name).write_text(PROGRAM.format(header=header, body=lines))

    def run(self, *options: str, faults: str = "", scale: str = "1") -> str:
        """Run pytest over it. Gives what it printed."""
        engine = f"{sys.executable} {HERE / 'fake_engine.py'} {faults}"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-rA",
            "--engine",
            engine,
            "--artifacts",
            str(self.artifacts),
            *options,
        ]
        environment = {"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"], "ZDTM_TIMEOUT_SCALE": scale}
        return subprocess.run(
            [*command, "."], cwd=self.directory, env=environment, capture_output=True, text=True, check=False
        ).stdout

    def left(self) -> list[str]:
        """Names of the items whose directories stayed."""
        return sorted(path.name for path in self.artifacts.glob("*/*"))


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_all_modes_of_good_programs_pass(suite: Suite) -> None:
    suite.add("one.py")
    suite.add("two.py", "pid = child(wait_term, block_term=True)\nready()\nfinish(pid)")
    (suite.directory / "static" / "three.c").write_text(C_PROGRAM)
    said = suite.run("-k", "one or three or (two and nocr)")
    assert f"{2 * len(MODES) + 1} passed" in said, said
    for mode in MODES:
        assert f"PASSED static/one.py::h-{mode}" in said
        assert f"PASSED static/three.c::h-{mode}" in said
    assert suite.left() == []


def test_a_long_way_from_ready_into_the_wait(suite: Suite) -> None:
    body = """import signal, time
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
os.write(1, b"READY\\n")
end = time.thread_time() + 0.01
while time.thread_time() < end: pass
signal.sigwaitinfo({signal.SIGTERM})"""
    suite.add("one.py", body)
    assert "2 passed" in suite.run("--modes", "cli,snapshot")


def test_ids_select(suite: Suite) -> None:
    suite.add("one.py")
    suite.add("two.py")
    assert f"2 passed, {2 * (len(MODES) - 1)} deselected" in suite.run("-k", "nocr")
    assert "2 passed" in suite.run("--modes", "cli,iters", "-k", "one")
    command = [sys.executable, "-m", "pytest", "-q", "static/one.py::h-nocr"]
    done = subprocess.run(
        command, cwd=suite.directory, env={"PYTHONPATH": str(CHECKOUT), "PATH": "/bin"}, capture_output=True, text=True
    )
    assert "1 passed" in done.stdout


def test_shards_are_a_partition(suite: Suite) -> None:
    for name in ("one.py", "two.py", "three.py"):
        suite.add(name)
    shards = [suite.run("--modes", "nocr", "--shard", f"{index}/2") for index in (1, 2)]
    passed = [line for said in shards for line in said.splitlines() if line.startswith("PASSED")]
    assert len(passed) == len(set(passed)) == 3


def test_runs_in_parallel(suite: Suite) -> None:
    for name in ("one.py", "two.py", "three.py"):
        suite.add(name)
    assert f"{3 * len(MODES)} passed" in suite.run("-n", "2")


@pytest.mark.parametrize(
    ("faults", "mode", "message"),
    [
        ("dump-fails", "cli", "engine: dump: exit status 1"),
        ("dump-fails", "cli", "Error (fake.py:1): ordered to fail: pipe 7 is odd"),
        ("restore-fails", "cli", "engine: restore: exit status 1"),
        ("dump-kills-nobody", "cli", "engine: the dump worked, but tasks are still there"),
        ("dump-kills-anyway", "snapshot", "program: died: killed by SIGKILL"),
        ("dump-leaves-a-process", "cli", "host: left behind\n  processes: "),
        ("restore-lies-about-the-pid", "cli", "engine: the pidfile should name task"),
        ("restore-lies-about-the-pid", "rpc", "engine: the pidfile should name task"),
        ("restore-changes-umask", "cli", "oracle: after the restore the tree looks different"),
        ("restore-changes-umask", "iters", "oracle: after restore 1 of 3 the tree looks different"),
        ("restore-changes-umask", "cli", "      - 0022\n      + 0077"),
        ("dump-fails", "lazy-remote", "engine: dump does not listen"),
        ("dump-kills-nobody", "lazy-remote", "engine: the dump worked, but tasks are still there"),
        ("restore-fails", "lazy-remote", "engine: restore: exit status 1"),
        ("restore-changes-umask", "lazy-remote", "oracle: after the restore the tree looks different"),
    ],
)
def test_faults_of_the_engine(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, faults: str, mode: str, message: str
) -> None:
    suite.add("one.py")
    said = suite.run("--modes", mode, faults=faults)
    assert message in said
    assert "1 failed" in said
    assert suite.left() == [f"one-h-{mode}"]
    assert str(suite.artifacts) in said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("ready(); check(False, 'the state is gone')", "program: FAIL: the state is gone, exit status 1"),
        ("os._exit(3)", "program: ended before it was ready: exit status 3"),
        ("ready(); os.kill(os.getpid(), 11)", "program: no verdict, killed by SIGSEGV"),
        ("ready(); print('PASS', flush=True); os._exit(2)", "program: PASS, exit status 2"),
        ("ready(); os.spawnl(os.P_NOWAIT, '/bin/sleep', 'sleep', '1000')", "host: left behind\n  processes: "),
    ],
)
def test_faults_of_the_program(suite: Suite, body: str, message: str) -> None:
    suite.add("one.py", body)
    said = suite.run("--modes", "nocr")
    assert message in said
    assert "1 failed" in said


def test_a_refusal_that_is_expected(suite: Suite) -> None:
    suite.add("one.py", header="expect: refuse pipe \\d+ is odd")
    said = suite.run(faults="dump-fails")
    assert "2 passed" in said, said
    said = suite.run("--modes", "cli")
    assert "the dump should have been refused, but says it worked" in said
    suite.add("one.py", header="expect: refuse (?i)a horse")
    assert 'no message matches "(?i)a horse"' in suite.run("--modes", "cli", faults="dump-fails")


def test_unmet_needs_skip_by_name(suite: Suite) -> None:
    suite.add("one.py", header="needs: tool no-such-tool")
    assert "needs tool no-such-tool" in suite.run("--modes", "nocr")
    suite.add("one.py", header="needs: luck")
    assert 'unknown need "luck"' in suite.run("--modes", "nocr")


def test_a_bad_header_is_an_error(suite: Suite) -> None:
    suite.add("one.py", header="stats: typo\nstates: a")
    suite.add("two.py", header="states: a\nstats: typo")
    assert "unknown key in the header: stats: typo" in suite.run("--modes", "nocr")


def test_c_programs_without_pytests_cache(suite: Suite) -> None:
    (suite.directory / "static" / "one.c").write_text(C_PROGRAM)
    assert "2 passed" in suite.run("--modes", "nocr,cli", "-p", "no:cacheprovider")
    assert list(suite.artifacts.iterdir()) == []


def test_a_c_program_that_does_not_compile(suite: Suite) -> None:
    (suite.directory / "static" / "one.c").write_text("/* X. */\nint main(void) { return oops; }\n")
    said = suite.run("--modes", "nocr")
    assert "oops" in said
    assert "1 failed" in said


def test_snapshot_puts_files_back(suite: Suite) -> None:
    """The original appends to its file; the restored one must find it as it was at the dump."""
    body = "open('f', 'a').close()\nready()\nequal(os.path.getsize('f'), 0, 'size')\nopen('f', 'a').write('x')"
    suite.add("one.py", body)
    assert "1 passed" in suite.run("--modes", "snapshot")


def test_programs_in_transition(suite: Suite) -> None:
    """They never rest: the oracle compares what they do not change, a snapshot copies files while all is frozen."""
    body = "running()\nn = 0\nwhile go_on():\n    n += 1\n    open('f', 'a').write('x')"
    suite.add("one.py", body, header="", where="transition")
    said = suite.run("--modes", "cli,snapshot", "--keep")
    assert "2 passed" in said, said
    suite.add("one.py", body, header="", where="static")
    assert "not at rest" in suite.run("--modes", "cli", "-k", "static")


def test_a_hanging_engine(suite: Suite) -> None:
    suite.add("one.py")
    said = suite.run("--modes", "cli", faults="dump-hangs", scale="0.1")
    assert "engine: dump still runs after 9 s" in said
    assert "tasks of the sandbox:" in said


def test_keep(suite: Suite) -> None:
    suite.add("one.py")
    suite.run("--modes", "cli", "--keep")
    (item,) = suite.artifacts.glob("*/*")
    assert item.name == "one-h-cli"
    assert (item / "out").read_text().splitlines() == ["READY", "PASS"]
    assert (item / "images" / "1" / "state.json").exists()


def test_another_engine_restores(suite: Suite) -> None:
    """The one that dumps can't, and is not asked to."""
    suite.add("one.py")
    fake = f"{sys.executable} {HERE / 'fake_engine.py'}"
    assert "1 passed" in suite.run("--modes", "cli", "--restore-engine", fake, faults="restore-fails")
    assert "restore: exit status 1" in suite.run("--modes", "cli", "--restore-engine", f"{fake} restore-fails")


def test_what_the_oracle_is_told_to_ignore(suite: Suite) -> None:
    suite.add("one.py")
    assert "1 failed" in suite.run("--modes", "cli", faults="restore-changes-umask")
    assert "1 passed" in suite.run("--modes", "cli", "--oracle-ignore", "fs,tree", faults="restore-changes-umask")


def test_programs_that_depend_on_the_kernel(suite: Suite) -> None:
    suite.add("one.py", header=f"{HEADER}kernel: the size of a page\n")
    suite.add("two.py")
    said = suite.run("--modes", "nocr", "-m", "kernel")
    assert "1 passed, 1 deselected" in said
    assert "PASSED static/one.py::h-nocr" in said


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--modes=nope", "--modes: unknown: nope"),
        ("--shard=3/2", "--shard: 3/2 should read I/N"),
        ("--engine=/no/such/engine", "--engine: /no/such/engine is not a program"),
        ("--sabotage=luck", "--sabotage: no kind luck"),
        ("--restore-engine=/no/such/engine", "--restore-engine: /no/such/engine is not a program"),
        ("--oracle-ignore=luck", "--oracle-ignore: unknown: luck"),
    ],
)
def test_bad_options(tmp_path: Path, option: str, message: str) -> None:
    command = [sys.executable, "-m", "pytest", str(CHECKOUT / "zdtm"), option]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert message in done.stderr
