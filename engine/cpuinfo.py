"""crucible cpuinfo dump|check: can tasks dumped on one processor go on running on another?

A program that has looked at CPUID goes on using what it found there, wherever it is restored. So an image of the
processor's features can go with a dump, and be compared before a restore (--cpu-cap):

    fpu   the floating-point state must fit: FXSAVE, XSAVE, and every state component
    ins   every instruction set that was there must be there; more is fine
    cpu   all features must be the same

Other architectures have no such image that this engine writes: cpuinfo.proto has no entry for aarch64.
"""

from __future__ import annotations

from engine import log
from engine.errors import CrError, Refused
from engine.option_values import CPU_CAP_ALL, CPU_CAP_CPU, CPU_CAP_FPU, CPU_CAP_INS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from engine.images.directory import ImageDir
    from engine.options import Options

_VENDORS = {"GenuineIntel": 1, "AuthenticAMD": 2}  # cpuinfo_x86_entry.vendor, 0 for others
_CAPABILITY_VERSION = 2
_WORDS_BY_VERSION = {1: 12, 2: 19}
_DUMP_FAILED = 255


def run(opts: Options) -> int:
    """The verb. Returns the exit status: 255 for a dump that failed, 1 for an incompatible processor."""
    from engine.images.directory import ImageDir

    with ImageDir(opts.images_dir_fd) as images:
        if opts.words == ["dump"]:
            try:
                write(images)
            except CrError as exc:
                log.error(exc.message, log.place_of(exc))
                return _DUMP_FAILED
            return 0
        reasons = check_cpu(images, opts.cpu_cap & CPU_CAP_ALL or CPU_CAP_ALL)
    if reasons:
        raise Refused("cpuinfo check", reasons)
    log.info("The processor is compatible with the images")
    return 0


def write(images: ImageDir) -> None:
    """Write cpuinfo.img. Raises CrError."""
    from engine.images.schema import message

    _require_x86()
    from engine.kernel.cpu_x86 import identify

    cpu = identify()
    entry = message("cpuinfo_entry")()
    x86 = entry.x86_entry.add()
    x86.vendor_id = _VENDORS.get(cpu.vendor, 0)
    x86.cpu_family, x86.model, x86.stepping = cpu.family, cpu.model, cpu.stepping
    x86.capability_ver = _CAPABILITY_VERSION
    x86.capability.extend(cpu.words)
    if cpu.model_name:
        x86.model_id = cpu.model_name
    x86.xfeatures_mask, x86.xsave_size, x86.xsave_size_max = cpu.xfeatures, cpu.xsave_size, cpu.xsave_size_max
    images.write("CPUINFO", entry)


def check_cpu(images: ImageDir, cap: int) -> list[str]:
    """Reasons why tasks of cpuinfo.img cannot run on this processor. cap: CPU_CAP_ bits, what is to be compared.

    Raises CrError when the image is missing or cannot be understood.
    """
    _require_x86()
    from engine.kernel.cpu_x86 import FPU, INSTRUCTIONS, identify, missing

    image = _read(images)
    cpu = identify()
    # Version 1 ends early: what it does not tell is taken to be as here.
    words = (*image.capability, *cpu.words[len(image.capability) :])
    reasons = []
    if cap & CPU_CAP_FPU:
        reasons += _lacking("floating-point support", missing(FPU, words, cpu.words))
        if image.HasField("xfeatures_mask") and image.xfeatures_mask & ~cpu.xfeatures:
            components = image.xfeatures_mask & ~cpu.xfeatures
            reasons.append(f"this processor cannot restore the XSAVE state components {components:#x} of the images")
    if cap & CPU_CAP_INS:
        reasons += _lacking("instructions", missing(INSTRUCTIONS, words, cpu.words))
    if cap & CPU_CAP_CPU and words != cpu.words:
        here = cpu.model_name or cpu.vendor
        there = image.model_id or f"family {image.cpu_family} model {image.model}"
        reasons.append(f"the features of this processor ({here}) are not those of the images' ({there})")
    return reasons


def _lacking(what: str, names: list[str]) -> list[str]:
    return [f"this processor lacks {what} that the images' had: {' '.join(names)}"] if names else []


def _read(images: ImageDir) -> Any:
    """The cpuinfo_x86_entry of the images."""
    where = images.path("CPUINFO")
    entries = images.read_one("CPUINFO").x86_entry
    if len(entries) != 1:
        raise CrError(f"{where} is of another architecture: it has {len(entries)} x86 entries")
    version, count = entries[0].capability_ver, len(entries[0].capability)
    if version not in _WORDS_BY_VERSION:
        raise CrError(f"{where} has capability version {version}, known are 1 and 2")
    if count != _WORDS_BY_VERSION[version]:
        raise CrError(f"{where} has {count} capability words, version {version} has {_WORDS_BY_VERSION[version]}")
    return entries[0]


def _require_x86() -> None:
    from engine.kernel.libc import MACHINE

    if MACHINE != "x86_64":
        raise CrError(f"cpuinfo is for x86_64 only: the image format has no entry for {MACHINE}")
