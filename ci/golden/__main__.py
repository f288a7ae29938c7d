"""python -m ci.golden [--kernel 6.1] [--criu] [--to DIR] [SCENARIO...]

Dumps the subject in the scenarios, without names in all that any kernel knows, on this machine's kernel or in a guest,
and adds the sets to zdtm/golden/. To make the whole of it anew, run it without options, with each kernel of ci/vm, and
with --kernel 6.1 --criu; on new kernels also with `droppable`.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
import tempfile
from pathlib import Path

from ci.golden import sets

COMPILERS = {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}
OURS = "crucible"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.golden", description="Make golden images.")
    parser.add_argument("scenarios", nargs="*", default=sets.SCENARIOS, help=f"default: {' '.join(sets.SCENARIOS)}")
    parser.add_argument("--kernel", help="in a guest with this kernel of ci/vm (default: here)")
    parser.add_argument("--criu", action="store_true", help="dumped by the distribution's criu instead of this engine")
    parser.add_argument("--subject", type=Path, help="the compiled subject (default: it is compiled)")
    parser.add_argument("--to", type=Path, default=sets.DIRECTORY, help="default: zdtm/golden")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        return _in_guest(options, Path(scratch)) if options.kernel else _here(options, Path(scratch))


def _here(options: argparse.Namespace, scratch: Path) -> int:
    subject = options.subject or scratch / "subject"
    if options.subject is None:
        sets.compile_subject(COMPILERS[platform.machine()], subject)
    name, engine = OURS, [sys.executable, "-m", "engine"]
    if options.criu:
        from ci.vm import roots

        name, engine = "criu", ["/usr/bin/env", *roots.criu()[1:]]
    for scenario in options.scenarios:
        (scratch / scenario).mkdir()
        path = sets.make(scenario, subject, engine, name, options.to, scratch / scenario)
        print(path, path.stat().st_size)
    return 0


def _in_guest(options: argparse.Namespace, scratch: Path) -> int:
    from ci.vm import kernels, roots
    from ci.vm.machine import Guest
    from ci.vm.suite import environment

    kernel = kernels.get(options.kernel)
    architecture = kernel.architecture
    sets.compile_subject(COMPILERS[roots.MACHINES[architecture]], scratch / "subject")
    command = [roots.python(architecture), "-m", "ci.golden", "--subject", "/run/vm/subject", "--to", "/run/vm"]
    command += options.scenarios
    if options.criu:
        roots.criu()
        command.append("--criu")
    guest = Guest(kernel, roots.layers(architecture), roots.busybox(architecture))
    status = guest.run("\n".join([*environment(), shlex.join(command)]), 600, scratch)
    for path in scratch.glob("*.tar.xz"):
        (options.to / path.name).write_bytes(path.read_bytes())
    return status


if __name__ == "__main__":
    sys.exit(main())
