"""The kernels that guests run, by name: which package has it, where its parts lie, what QEMU is to load."""

from __future__ import annotations

import lzma
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ci.vm.packages import Archive, cache

PACKAGES = {
    "6.1": ("amd64", "linux-image-amd64"),
    "6.12": ("amd64", "linux-image-6.12-amd64"),
    "6.1-arm64": ("arm64", "linux-image-arm64"),
    "6.12-arm64": ("arm64", "linux-image-6.12-arm64"),
}
"""name -> Debian's architecture, meta-package"""

# The header of a compressed x86 kernel, Documentation/arch/x86/boot.rst.
_SETUP_SECTORS = 0x1F1
_PAYLOAD = struct.Struct("<II")
_PAYLOAD_AT = 0x248
_ZSTD, _XZ = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ"


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel."""

    name: str
    architecture: str
    image: Path
    """what QEMU boots"""
    modules: Path
    """the directory /lib/modules/RELEASE"""

    @property
    def release(self) -> str:
        return self.modules.name


def get(name: str) -> Kernel:
    """Fetch and unpack a kernel, unless the cache has it. Raises LookupError for a name nobody knows."""
    if name not in PACKAGES:
        raise LookupError(f"no kernel {name}; there are {', '.join(PACKAGES)}")
    architecture, meta = PACKAGES[name]
    root = cache() / f"kernel-{name}"
    if not root.exists():
        archive = Archive(architecture)
        unfinished = cache() / f"kernel-{name}.new"
        archive.unpack([archive.real_name(meta)], unfinished)
        compressed = next((unfinished / "boot").glob("vmlinuz-*"))
        (unfinished / "boot" / "image").write_bytes(_bootable(compressed.read_bytes(), architecture))
        modules = next((unfinished / "usr/lib/modules").iterdir())
        subprocess.run(["depmod", "-b", unfinished, modules.name], check=True)
        unfinished.rename(root)
    return Kernel(name, architecture, root / "boot/image", next((root / "usr/lib/modules").iterdir()))


def _bootable(compressed: bytes, architecture: str) -> bytes:
    """arm64 kernels are booted as they are. On x86 the payload is, by PVH: emulated, its own decompressor takes most
    of a minute."""
    if architecture != "amd64":
        return compressed
    code = (compressed[_SETUP_SECTORS] + 1) * 512
    start, length = _PAYLOAD.unpack_from(compressed, _PAYLOAD_AT)
    payload = compressed[code + start : code + start + length]
    if payload.startswith(_XZ):
        return lzma.LZMADecompressor().decompress(payload)
    if payload.startswith(_ZSTD):
        # The last four bytes are the length, which zstd takes for another frame: its error is not ours.
        return subprocess.run(["zstd", "-dcq"], input=payload[:-4], stdout=subprocess.PIPE, check=True).stdout
    raise ValueError(f"the kernel is compressed in a way that is not known here: {payload[:6]!r}")
