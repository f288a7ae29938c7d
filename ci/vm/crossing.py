"""python -m ci.vm.crossing KERNEL [--reports DIR] [PROGRAM...]

Images cross between engines, in a guest whose kernel the distribution's criu works on: it restores what we dump, and we
restore what it dumps. Each program has its say both times, and so has the oracle.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from ci.vm import kernels, roots
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
    "eventfd.py inotify_files.py scm_rights.py seccomp_filters.c stopped.py unix_listener.py unix_pair_idle.py "
    "vma_split_protections.py zombies.py"
).split()
NOT_DUMPED_BY_CRIU = (
    "inotify_files.py lock_posix.py pipe_flags.py seccomp_filters.c stopped.py unix_queues.py"
).split()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.vm.crossing", description="Two engines, each other's images.")
    parser.add_argument("kernel", choices=kernels.PACKAGES)
    parser.add_argument("programs", nargs="*", default=PROGRAMS, help="below zdtm/static (default: all that cross)")
    parser.add_argument("--reports", type=Path, default=Path("reports"), help="default: ./reports")
    parser.add_argument("--seconds", type=float, default=3600, help="until the guest is ended (default: 3600)")
    options = parser.parse_args()
    kernel = kernels.get(options.kernel)
    guest = Guest(kernel, roots.layers(kernel.architecture), roots.busybox(kernel.architecture))
    directory = options.reports / f"{options.kernel}-crossing"
    directory.mkdir(parents=True, exist_ok=True)
    return 1 if guest.run(script(options.programs), options.seconds, directory.resolve()) else 0


def script(programs: list[str]) -> str:
    """What the guest runs: every program twice, in either direction. Exit status 0 if all passed."""
    ours, theirs = shlex.join([sys.executable, "-m", "engine"]), shlex.join(roots.criu())
    pytest = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-v", "--modes", "cli"]
    pytest.append(f"--oracle-ignore={','.join(DIFFERENT)}")
    directions = (
        ("ours-restored-by-criu", ours, theirs, NOT_RESTORED_BY_CRIU),
        ("crius-restored-by-us", theirs, ours, NOT_DUMPED_BY_CRIU),
    )
    lines = [*environment(), "status=0"]
    for name, dumper, restorer, left_out in directions:
        paths = [f"zdtm/static/{program}" for program in programs if program not in left_out]
        run = [*pytest, *paths, "--engine", dumper, "--restore-engine", restorer, f"--junitxml=/run/vm/{name}.xml"]
        lines.append(f"{shlex.join(run)} || status=1")
    return "\n".join([*lines, "exit $status", ""])


if __name__ == "__main__":
    sys.exit(main())
