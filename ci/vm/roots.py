"""Root file systems of guests: of this machine's architecture its own, of another one made of Debian's packages."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

from ci.vm.machine import Layer
from ci.vm.packages import Archive, cache

CHECKOUT = Path(__file__).resolve().parents[2]
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
SYSTEM = (
    "base-files base-passwd bash busybox-static coreutils dash e2fsprogs findutils gawk grep hostname iproute2 kmod "
    "libc-bin login mount ncurses-base passwd procps python3 sed util-linux"
).split()
MODULES = "hypothesis protobuf pyroute2 pytest pytest-xdist python-ptrace rich".split()
SITE_PACKAGES = "/usr/local/lib/python3.11/dist-packages"
"""Debian 12's, where its python3 looks for what did not come in a package."""


def busybox(architecture: str) -> Path:
    """A busybox without shared libraries."""
    root = cache() / f"busybox-{architecture}"
    if not root.exists():
        unfinished = root.with_suffix(".new")
        Archive(architecture).unpack(["busybox-static"], unfinished)
        unfinished.rename(root)
    return root / "usr/bin/busybox"


def is_foreign(architecture: str) -> bool:
    """Whether its programs don't run on this machine."""
    return MACHINES[architecture] != platform.machine()


def layers(architecture: str) -> tuple[Layer, ...]:
    """What the guest's root is made of. The checkout is at the same place as on this machine."""
    if not is_foreign(architecture):
        return (Layer("root", Path("/"), "/"),)
    return (Layer("root", _foreign(architecture), "/"), Layer("checkout", CHECKOUT, str(CHECKOUT)))


def python(architecture: str) -> str:
    """The interpreter to run the suite with in the guest."""
    return "/usr/bin/python3" if is_foreign(architecture) else sys.executable


def _foreign(architecture: str) -> Path:
    root = cache() / f"root-{architecture}"
    if root.exists():
        return root
    unfinished = root.with_suffix(".new")
    archive = Archive(architecture)
    archive.unpack(archive.with_dependencies(SYSTEM), unfinished)
    for name in ("passwd", "group"):
        (unfinished / "etc" / name).write_text((unfinished / "usr/share/base-passwd" / f"{name}.master").read_text())
    for directory in ("proc", "sys", "dev", "run", "tmp", "root", "mnt"):
        (unfinished / directory).mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wheels = ["--only-binary=:all:", "--python-version=3.11", f"--platform=manylinux2014_{MACHINES[architecture]}"]
    target = ["--target", str(unfinished / SITE_PACKAGES.lstrip("/"))]
    subprocess.run([*command, *wheels, *target, *MODULES], check=True)
    unfinished.rename(root)
    return root


def criu() -> list[str]:
    """The command line of the distribution's criu, for guests of this machine's architecture. It is not installed:
    what it needs and this machine lacks lies beside it."""
    root = cache() / "criu"
    if not root.exists():
        architecture = next(name for name in MACHINES if not is_foreign(name))
        archive = Archive(architecture)
        unfinished = root.with_suffix(".new")
        archive.unpack(archive.with_dependencies(["criu"], installed=True), unfinished)
        unfinished.rename(root)
    libraries = root / "usr/lib" / f"{platform.machine()}-linux-gnu"
    return ["env", f"LD_LIBRARY_PATH={libraries}", str(root / "usr/sbin/criu")]
