"""python -m ci.vm.crossing KERNEL [--reports DIR] [PROGRAM...]

Images cross between engines, in a guest whose kernel the distribution's criu works on: it restores what we dump, and we
restore what it dumps. Each program has its say both times, and so has the oracle.

The control is criu with itself, for the programs that don't cross: those that are left out of a direction, and those
that failed in it. What criu can't do alone is no matter of our images.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from ci.vm import kernels, roots, verdicts
from ci.vm.machine import Guest
from ci.vm.suite import environment

PROGRAMS = (
    "capabilities.c epoll_targets.c eventfd.py fd_numbers.py fifo_full.py file_offset.py file_sharing.py flock.py "
    "fork_cow.py fpu_registers.c fs_cwd.py fs_umask.py ghost_file.py inotify_files.py itimers_periodic.c link_remap.py "
    "lock_posix.py memfd_mappings.py memory_every_second_page.py pipe_flags.py pipe_full.py pipe_size.py "
    "posix_timers.c scm_rights.py seccomp_filters.c session_and_groups.py shmem_fork.py sigactions.c signalfd.py "
    "signals_pending.c stopped.py thread_many.c thread_masks.c timerfd.c uids_gids.py unix_listener.py "
    "unix_pair_idle.py unix_queues.py vma_split_protections.py zombies.py"
).split()

DIFFERENT = ("maps", "namespaces", "files")
"""What criu does not restore as it was, whoever dumped it; docs/kernels.md says more about this and the following."""
NOT_RESTORED_BY_CRIU = (
    "eventfd.py inotify_files.py scm_rights.py seccomp_filters.c stopped.py unix_listener.py "
    "vma_split_protections.py zombies.py"
).split()
NOT_DUMPED_BY_CRIU = (
    "inotify_files.py lock_posix.py pipe_flags.py seccomp_filters.c stopped.py unix_queues.py"
).split()

OURS_RESTORED, CRIUS_RESTORED, CONTROL = "ours-restored-by-criu", "crius-restored-by-us", "crius-restored-by-criu"
LEFT_OUT = {OURS_RESTORED: NOT_RESTORED_BY_CRIU, CRIUS_RESTORED: NOT_DUMPED_BY_CRIU}


def main() -> int:
    options = parse(sys.argv[1:])
    kernel = kernels.get(options.kernel)
    guest = Guest(kernel, roots.layers(kernel.architecture), roots.busybox(kernel.architecture))
    directory = options.reports / f"{options.kernel}-crossing"
    directory.mkdir(parents=True, exist_ok=True)
    for old in directory.glob("*.xml"):
        old.unlink()
    status = guest.run(script(options.programs), options.seconds, directory.resolve())
    table, as_expected = judge(directory, options.programs)
    print(table)
    return 0 if status == 0 and as_expected else 1


def parse(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m ci.vm.crossing", description="Two engines, each other's images.")
    parser.add_argument("kernel", choices=kernels.PACKAGES)
    parser.add_argument("programs", nargs="*", default=PROGRAMS, help="below zdtm/static (default: all that cross)")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="default: ./reports")
    parser.add_argument("--seconds", type=float, default=3600, help="until the guest is ended (default: 3600)")
    return parser.parse_intermixed_args(words)


def script(programs: list[str]) -> str:
    """What the guest runs: every program twice, in either direction, and the control. Exit status 0 if all that was to
    cross did; the control's own verdicts are for `judge`."""
    ours, theirs = shlex.join([sys.executable, "-m", "engine"]), shlex.join(roots.criu())
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--modes", "cli"]
    pytest.append(f"--oracle-ignore={','.join(DIFFERENT)}")

    def run(name: str, dumper: str, restorer: str) -> str:
        return shlex.join([*pytest, "--engine", dumper, "--restore-engine", restorer, f"--junitxml=/run/vm/{name}.xml"])

    crossing = {OURS_RESTORED: (ours, theirs), CRIUS_RESTORED: (theirs, ours)}
    lines = [*environment(), "status=0"]
    for name, engines in crossing.items():
        paths = _paths(program for program in programs if program not in LEFT_OUT[name])
        lines.append(f"{run(name, *engines)} {paths} || status=1")
    failed = shlex.join([sys.executable, "-m", "ci.vm.verdicts", *(f"/run/vm/{name}.xml" for name in crossing)])
    lines.append(f'control="{_paths(_left_out(programs))} $({failed})"')
    lines.append(f'test -z "${{control# }}" || {run(CONTROL, theirs, theirs)} $control')
    return "\n".join([*lines, "exit $status", ""])


def judge(directory: Path, programs: list[str]) -> tuple[str, bool]:
    """A table of the programs that did not cross in both directions, and whether those that were left out are beyond
    criu alone too: else the fault is in our images, or in what we make of its."""
    said = {path.stem: verdicts.read(path) for path in directory.glob("*.xml")}
    rows, surprises = [("", *LEFT_OUT, CONTROL)], []
    for program in programs:
        path = f"zdtm/static/{program}"
        across = [said.get(name, {}).get(path, "left out") for name in LEFT_OUT]
        alone = said.get(CONTROL, {}).get(path, "not run")
        if across != ["passed", "passed"]:
            rows.append((program, *across, alone))
        if program in _left_out(programs) and alone == "passed":
            surprises.append(f"{program}: criu alone manages it, so it is to cross")
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, *surprises]), not surprises


def _left_out(programs: list[str]) -> list[str]:
    return [program for program in programs if any(program in names for names in LEFT_OUT.values())]


def _paths(programs: Iterable[str]) -> str:
    return shlex.join(f"zdtm/static/{program}" for program in programs)


if __name__ == "__main__":
    sys.exit(main())
