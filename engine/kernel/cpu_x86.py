"""What the x86 processor is and can do, by CPUID.

Features are 32-bit words, each a register of a CPUID leaf. Their order is fixed by cpuinfo.img (capability version 2),
which took it from the kernel's <asm/cpufeature.h> of its time: words 2, 3, 5, 7 and 8 are not of CPUID, or of
processors without a 64-bit mode.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.kernel.cpuid import cpuid

_EAX, _EBX, _ECX, _EDX = range(4)
_LEAVES = {  # word: leaf, subleaf, register
    0: (0x1, 0, _EDX),
    1: (0x80000001, 0, _EDX),
    4: (0x1, 0, _ECX),
    6: (0x80000001, 0, _ECX),
    9: (0x7, 0, _EBX),
    10: (0xD, 1, _EAX),
    11: (0x7, 0, _ECX),
    12: (0xF, 1, _EDX),
    13: (0x80000008, 0, _EBX),
    14: (0x6, 0, _EAX),
    15: (0x8000000A, 0, _EDX),
    16: (0xF, 0, _EDX),
    17: (0x80000007, 0, _EBX),
    18: (0x7, 0, _EDX),
}
WORDS = 19

# Word 3 is the kernel's own. Every 64-bit processor has these three, which images of CRIU carry:
# string instructions that are fast (bit 16), long no-ops (20), and CPUID itself (25).
_LINUX_WORD = 3
_LINUX_BITS = 1 << 16 | 1 << 20 | 1 << 25

FPU = {0: "fpu:0 fxsr:24", 4: "osxsave:27"}
"""Names and bits, by word, of what decides over the form of the saved floating-point state."""

INSTRUCTIONS = {
    0: "fpu:0 tsc:4 cx8:8 sep:11 cmov:15 clflush:19 mmx:23 fxsr:24 sse:25 sse2:26",
    1: "syscall:11 mmxext:22 rdtscp:27 3dnowext:30 3dnow:31",
    4: "sse3:0 pclmulqdq:1 monitor:3 ssse3:9 fma:12 cx16:13 sse4_1:19 sse4_2:20 movbe:22 popcnt:23 aes:25 xsave:26 "
    "osxsave:27 avx:28 f16c:29 rdrand:30",
    6: "lahf_lm:0 abm:5 sse4a:6 misalignsse:7 3dnowprefetch:8 xop:11 fma4:16 tbm:21",
    9: "fsgsbase:0 bmi1:3 hle:4 avx2:5 bmi2:8 erms:9 rtm:11 mpx:14 avx512f:16 avx512dq:17 rdseed:18 adx:19 "
    "avx512ifma:21 clflushopt:23 clwb:24 avx512pf:26 avx512er:27 avx512cd:28 sha_ni:29 avx512bw:30 avx512vl:31",
    10: "xsaveopt:0 xsavec:1 xgetbv1:2",
    11: "avx512vbmi:1 pku:3 waitpkg:5 avx512_vbmi2:6 gfni:8 vaes:9 vpclmulqdq:10 avx512_vnni:11 avx512_bitalg:12 "
    "avx512_vpopcntdq:14 rdpid:22 cldemote:25 movdiri:27 movdir64b:28",
    18: "avx512_4vnniw:2 avx512_4fmaps:3 avx512_vp2intersect:8 serialize:14 amx_bf16:22 avx512_fp16:23 amx_tile:24 "
    "amx_int8:25",
}
"""Names and bits, by word, of instructions that a program may use once it has seen that they are there."""

_XSAVE_LEAF = 0xD


class Cpu(NamedTuple):
    """One processor. vendor: "GenuineIntel"; words: the features; sizes in bytes, 0 without XSAVE."""

    vendor: str
    family: int
    model: int
    stepping: int
    words: tuple[int, ...]
    model_name: str
    xfeatures: int
    xsave_size: int
    xsave_size_max: int


def identify() -> Cpu:
    """The processor this runs on."""
    top, *vendor = cpuid(0)
    top_extended = cpuid(0x80000000)[_EAX]
    words = [0] * WORDS
    for word, (leaf, subleaf, register) in _LEAVES.items():
        if leaf <= (top_extended if leaf & 0x80000000 else top):
            words[word] = cpuid(leaf, subleaf)[register]
    words[_LINUX_WORD] = _LINUX_BITS
    xfeatures = xsave_size = xsave_size_max = 0
    if top >= _XSAVE_LEAF:
        low, xsave_size, xsave_size_max, high = cpuid(_XSAVE_LEAF)
        xfeatures = high << 32 | low
    name = _string(vendor[0], vendor[2], vendor[1])
    return Cpu(name, *_signature(), tuple(words), _model_name(top_extended), xfeatures, xsave_size, xsave_size_max)


def _signature() -> tuple[int, int, int]:
    """Family, model, stepping: CPUID leaf 1, EAX (Intel SDM, volume 2, "CPUID")."""
    eax = cpuid(1)[_EAX]
    family, model = eax >> 8 & 0xF, eax >> 4 & 0xF
    if family in (6, 0xF):
        model |= eax >> 12 & 0xF0
    if family == 0xF:
        family += eax >> 20 & 0xFF
    return family, model, eax & 0xF


def _model_name(top_extended: int) -> str:
    if top_extended < 0x80000004:
        return ""
    return _string(*cpuid(0x80000002), *cpuid(0x80000003), *cpuid(0x80000004)).strip()


def _string(*registers: int) -> str:
    text = b"".join(register.to_bytes(4, "little") for register in registers)
    return text.split(b"\0")[0].decode("ascii", "replace")


def missing(features: dict[int, str], wanted: tuple[int, ...], have: tuple[int, ...]) -> list[str]:
    """Names of those features (FPU or INSTRUCTIONS) that one list of words has and another lacks."""
    names = []
    for word, entries in features.items():
        for entry in entries.split():
            name, _, bit = entry.partition(":")
            if (wanted[word] & ~have[word]) >> int(bit) & 1:
                names.append(name)
    return names
