"""python -m ci.vm.suite KERNEL [--shards N] [--reports DIR] [-- PYTEST-OPTIONS...]

The part of the suites that depends on the kernel, in guests that run another one: the engine's tests of tapes,
registers and the kernel's interfaces, and the programs whose header says what kernels differ in (`kernel:`). With
several shards, as many guests run side by side. Each leaves its reports in the directory, JUnit's, and what it said.

With --security the guests have a security module other than the kernel's default one, and what runs is the programs
about it: those with its name in theirs.

An emulated processor is some fifteen times slower than a real one, so all time limits are stretched.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ci.vm import kernels, roots
from ci.vm.machine import SECURITY_MODULES, Guest, Layer
from ci.vm.packages import cache
from zdtm.harness import build, header

ENGINE_TESTS = ("tests/tape", "tests/task", "tests/kernel", "tests/golden")
CROSS_COMPILERS = {"amd64": "x86_64-linux-gnu-gcc", "arm64": "aarch64-linux-gnu-gcc"}
GUEST_CACHE = "/var/cache/zdtm"
TIMEOUT_SCALE = 20


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.vm.suite", description="Test on another kernel.")
    parser.add_argument("kernel", choices=kernels.PACKAGES)
    parser.add_argument("--shards", type=int, default=1, help="guests that run side by side (default: 1)")
    parser.add_argument("--shard", metavar="I/N", help="only the I-th of N shards")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="default: ./reports")
    parser.add_argument("--memory", default="2G", help="of each guest (default: 2G)")
    parser.add_argument("--seconds", type=float, default=5400, help="until a guest is ended (default: 5400)")
    parser.add_argument("--security", choices=SECURITY_MODULES, help="only the programs about this security module")
    parser.epilog = "Behind -- follow pytest's options for the programs; without them: -m kernel --modes cli"
    arguments, programs = sys.argv[1:], ["-m", "kernel", "--modes", "cli"]
    if "--" in arguments:
        at = arguments.index("--")
        arguments, programs = arguments[:at], arguments[at + 1 :]
    options = parser.parse_args(arguments)
    shards = [options.shard] if options.shard else [f"{n + 1}/{options.shards}" for n in range(options.shards)]
    kernel = kernels.get(options.kernel)
    if options.security:
        programs += ["-k", options.security]
    guest = Guest(
        kernel,
        _layers(kernel.architecture),
        roots.busybox(kernel.architecture),
        options.memory,
        security=options.security,
    )
    with ThreadPoolExecutor(len(shards)) as pool:
        statuses = list(pool.map(lambda shard: _run_shard(guest, shard, programs, options), shards))
    return max(statuses)


def _run_shard(guest: Guest, shard: str, programs: list[str], options: argparse.Namespace) -> int:
    """0, or 1 when a test failed."""
    machine = f"{options.kernel}-{options.security}" if options.security else options.kernel
    directory = options.reports / f"{machine}-{shard.replace('/', '-of-')}"
    directory.mkdir(parents=True, exist_ok=True)
    tests = () if options.security else ENGINE_TESTS
    command = script(guest.kernel.architecture, shard, programs, tests)
    return 1 if guest.run(command, options.seconds, directory.resolve()) else 0


def script(architecture: str, shard: str, programs: list[str], tests: Sequence[str] = ENGINE_TESTS) -> str:
    """What the guest runs: the programs, and in the first shard the engine's tests. Exit status 0 if all passed."""
    pytest = [roots.python(architecture), "-m", "pytest", "-q", "-o", f"cache_dir={GUEST_CACHE}"]
    runs = [(*pytest, "zdtm", "--shard", shard, "--junitxml=/run/vm/zdtm.xml", *programs)]
    if tests and shard.startswith("1/"):
        runs.append((*pytest, *tests, "--junitxml=/run/vm/engine.xml"))
    lines = environment()
    if roots.is_foreign(architecture):
        lines.append(f"export CC={CROSS_COMPILERS[architecture]}")
    lines += ["status=0", *(f"{shlex.join(run)} || status=1" for run in runs)]
    return "\n".join([*lines, "exit $status", ""])


def environment() -> list[str]:
    """The lines of shell by which any of our tests start in a guest."""
    variables = {
        "CRUCIBLE_VM_CACHE": str(cache()),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/tmp",
        "PYTHONPATH": str(roots.CHECKOUT),
        "ZDTM_TIMEOUT_SCALE": str(TIMEOUT_SCALE),
        "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
    }
    exports = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
    return [f"cd {shlex.quote(str(roots.CHECKOUT))}", *exports]


def _layers(architecture: str) -> tuple[Layer, ...]:
    """The root file system. A foreign one is given the programs in C, compiled here: it would take long there."""
    layers = roots.layers(architecture)
    if not roots.is_foreign(architecture):
        return layers
    built = cache() / f"built-{architecture}"
    os.environ["CC"] = CROSS_COMPILERS[architecture]
    for path in sorted((roots.CHECKOUT / "zdtm").glob("*/*.c")):
        if header.is_program(path) and (program := header.read(path)).kernel and _is_for(program, architecture):
            build.executable(program, built / "d/zdtm")
    return (*layers, Layer("built", built, GUEST_CACHE))


def _is_for(program: header.Program, architecture: str) -> bool:
    machines = [need.split()[1:] for need in program.needs if need.startswith("arch ")]
    return all(roots.MACHINES[architecture] in names for names in machines)


if __name__ == "__main__":
    sys.exit(main())
