"""python -m ci.vm [options] KERNEL [--] COMMAND...

Boots the kernel (6.1, 6.12, 6.1-arm64, 6.12-arm64) and runs the command as root in the checkout, or what stands for its
directory in the guest. Its output and exit status are ours. What the guest writes is gone when it ends.
"""

from __future__ import annotations

import argparse
import shlex
import sys

from ci.vm import kernels, roots
from ci.vm.machine import SECURITY_MODULES, Guest


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ci.vm", description="Run a command under another kernel.")
    parser.add_argument("kernel", choices=kernels.PACKAGES)
    parser.add_argument("command", nargs="+")
    parser.add_argument("--memory", default="2G", help="as QEMU's -m (default: 2G)")
    parser.add_argument("--processors", type=int, default=1, help="default: 1")
    parser.add_argument("--seconds", type=float, default=600, help="until the guest is ended (default: 600)")
    parser.add_argument("--acceleration", choices=["kvm", "tcg"], help="default: kvm if a guest boots with it")
    parser.add_argument("--security", choices=SECURITY_MODULES, help="default: the kernel's own, AppArmor")
    options = parser.parse_args()
    kernel = kernels.get(options.kernel)
    guest = Guest(
        kernel,
        roots.layers(kernel.architecture),
        roots.busybox(kernel.architecture),
        options.memory,
        options.processors,
        options.acceleration,
        options.security,
    )
    return guest.run(in_checkout(options.command), options.seconds)


def in_checkout(command: list[str]) -> str:
    """A shell script that runs the command in the guest's copy of the checkout."""
    return f"cd {shlex.quote(str(roots.CHECKOUT))} && exec {shlex.join(command)}\n"


if __name__ == "__main__":
    sys.exit(main())
