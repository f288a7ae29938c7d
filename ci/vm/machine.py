"""A guest: the QEMU that runs it, started with what it shares, and what came of its command."""

from __future__ import annotations

import contextlib
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ci.vm import initramfs
from ci.vm.kernels import Kernel
from ci.vm.packages import cache

HERE = Path(__file__).resolve().parent
PROBE_SECONDS = 30
POLL_SECONDS = 0.2
SECURITY_MODULES = ("apparmor", "selinux")


@dataclass(frozen=True)
class Layer:
    """A directory of the host that the guest sees at a place of its own, and may write to without the host's notice."""

    tag: str
    source: Path
    place: str


@dataclass(frozen=True)
class Guest:
    """What is to be booted, and with how much."""

    kernel: Kernel
    layers: tuple[Layer, ...]
    busybox: Path
    memory: str = "2G"
    processors: int = 1
    acceleration: str | None = None
    """kvm, tcg, or None: the first of them that works"""
    security: str | None = None
    """which of the kernel's security modules gives labels to tasks; None: the kernel's default"""

    def run(self, command: str, seconds: float, results: Path | None = None) -> int:
        """Run a shell script as root, its output going to stdout as it comes. Returns its exit status.

        results: a directory that the guest has as /run/vm and may write to, with its output and console
        Raises RuntimeError if the guest came to an end without a status, TimeoutError after so many seconds.
        """
        with tempfile.TemporaryDirectory(prefix="crucible-vm-") as scratch:
            shared = results or Path(scratch)
            for name in ("status", "output"):
                (shared / name).unlink(missing_ok=True)
            (shared / "command").write_text(command)
            (shared / "output").touch()
            for name in ("guest.sh", "policy.conf"):
                shutil.copy(HERE / name, shared)
            with (shared / "console").open("wb") as log:
                arguments = self._command(self.acceleration or self._best(), shared)
                qemu = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                _follow(qemu, shared / "output", seconds)
            finally:
                qemu.kill()
                qemu.wait()
            if not (shared / "status").exists():
                raise RuntimeError(f"{self.kernel.name}: the guest ended by itself\n{_last_lines(shared / 'console')}")
            return int((shared / "status").read_text())

    def _best(self) -> str:
        """KVM, if a guest boots with it: where this machine is itself a guest, it may open and then not work."""
        same = {"amd64": "x86_64", "arm64": "aarch64"}[self.kernel.architecture] == platform.machine()
        if not same or not Path("/dev/kvm").exists():
            return "tcg"
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        known = cache() / f"kvm-{self.kernel.name}-{boot_id}"
        if not known.exists():
            known.write_text("kvm" if self._boots("kvm") else "tcg")
        return known.read_text()

    def _boots(self, acceleration: str) -> bool:
        arguments = self._command(acceleration, None)
        try:
            done = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=PROBE_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return b"guest is up" in done.stdout

    def _command(self, acceleration: str, results: Path | None) -> list[str]:
        """results: None for a guest that only shows that it boots."""
        # An emulated timer may be late on a busy machine, which the kernel would take for a broken one.
        x86 = self.kernel.architecture == "amd64"
        words = "quiet panic=-1 console=" + ("ttyS0 no_timer_check" if x86 else "ttyAMA0")
        words += f" security={self.security}" if self.security else ""
        shares = [] if results is None else [*self._shares(), _share("results", results, writable=True)]
        words += " probe" if results is None else f" layers={','.join(f'{x.tag}:{x.place}' for x in self.layers)}"
        return [
            *("setpriv", "--pdeathsig", "KILL"),  # no guest outlives who started it
            *_machine(self.kernel.architecture, acceleration),
            *("-accel", acceleration, "-m", self.memory, "-smp", str(self.processors)),
            *("-display", "none", "-serial", "stdio", "-monitor", "none", "-no-reboot", "-nodefaults"),
            *("-device", "virtio-rng-pci"),
            *("-kernel", str(self.kernel.image)),
            *("-initrd", str(initramfs.make(self.kernel, self.busybox))),
            *("-append", words),
            *(word for share in shares for word in share),
        ]

    def _shares(self) -> list[list[str]]:
        shares = [_share(layer.tag, layer.source) for layer in self.layers]
        return [*shares, _share("modules", self.kernel.modules)]


def _machine(architecture: str, acceleration: str) -> list[str]:
    """The emulator, and the machine and processor in which all that there is to restore is there."""
    best = "host" if acceleration == "kvm" else "max"
    if architecture == "amd64":
        return ["qemu-system-x86_64", "-machine", "q35", "-cpu", best]
    # The architected algorithm of pointer authentication, emulated, takes half of all the time.
    processor = best if acceleration == "kvm" else "max,pauth-impdef=on"
    return ["qemu-system-aarch64", "-machine", "virt,gic-version=max", "-cpu", processor]


def _share(tag: str, source: Path, *, writable: bool = False) -> list[str]:
    access = "" if writable else ",readonly=on"
    return ["-virtfs", f"local,path={source},mount_tag={tag},security_model=none,multidevs=remap{access}"]


def _follow(qemu: subprocess.Popen[bytes], output: Path, seconds: float) -> None:
    """Copy what is written to a file to stdout until the guest has ended."""
    deadline = time.monotonic() + seconds
    with output.open("rb") as file:
        ended = False
        while not ended:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the guest did not end within {seconds:g} seconds")
            with contextlib.suppress(subprocess.TimeoutExpired):
                qemu.wait(POLL_SECONDS)
                ended = True
            while chunk := file.read(1 << 16):
                sys.stdout.buffer.write(chunk)
                sys.stdout.buffer.flush()


def _last_lines(console: Path) -> str:
    return "\n".join(console.read_text(errors="replace").splitlines()[-20:])
