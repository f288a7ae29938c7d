"""The initramfs of a guest: busybox, init.sh, and the modules it takes to reach the host's directories."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

from ci.vm.kernels import Kernel

HERE = Path(__file__).resolve().parent
MODULES = ("virtio_pci", "virtio_mmio", "9pnet_virtio", "9p", "overlay")
SUFFIX = re.compile(r"\.ko(\.xz)?$")


def make(kernel: Kernel, busybox: Path) -> Path:
    """Beside the kernel's image. Written anew each time: it takes a tenth of a second, and init.sh may have changed."""
    result = kernel.image.with_name("initramfs")
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        (root / "bin").mkdir()
        (root / "modules").mkdir()
        (root / "dev").mkdir()
        os.mknod(root / "dev/console", stat.S_IFCHR | 0o600, os.makedev(5, 1))
        shutil.copy(busybox, root / "bin/busybox")
        shutil.copy(HERE / "init.sh", root / "init")
        (root / "init").chmod(0o755)
        order = [_copied(kernel.modules / module, root / "modules") for module in _closure(kernel)]
        (root / "modules/order").write_text("".join(f"{name}\n" for name in order))
        names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
        packed = subprocess.run(
            ["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, input=names.encode(), stdout=subprocess.PIPE, check=True
        )
        result.write_bytes(packed.stdout)
    return result


def _closure(kernel: Kernel) -> list[str]:
    """The modules, each after those it needs. What is built in has no file and is left out."""
    depends = {}
    names = {}
    for line in (kernel.modules / "modules.dep").read_text().splitlines():
        path, _, needed = line.partition(":")
        depends[path] = needed.split()
        names[SUFFIX.sub("", Path(path).name).replace("-", "_")] = path
    order: dict[str, None] = {}

    def add(path: str) -> None:
        for needed in reversed(depends[path]):
            order[needed] = None
        order[path] = None

    for name in MODULES:
        if name in names:
            add(names[name])
    return list(order)


def _copied(module: Path, directory: Path) -> str:
    if module.suffix != ".xz":
        shutil.copy(module, directory)
        return module.name
    import lzma

    (directory / module.stem).write_bytes(lzma.decompress(module.read_bytes()))
    return module.stem
