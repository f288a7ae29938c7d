"""The scalable vectors of aarch64 as ptrace shows them: regset NT_ARM_SVE.

It is a struct user_sve_header, then Z0-31, P0-15 and FFR, whose sizes go with the vector length (struct
user_sve_header in arch/arm64/include/uapi/asm/ptrace.h), then FPSR and FPCR. A thread that has not used SVE shows its
FPSIMD registers in their place.

Any system call takes from the vectors all but the 128 bits that are FPSIMD's (Documentation/arch/arm64/sve.rst, "System
call behaviour"). So they are seldom live: in a thread that was stopped between system calls, in the middle of a vector
loop, as the memcpy of a C library has one.
"""

from __future__ import annotations

import errno
import struct

from engine.kernel.libc import NR, syscall
from engine.kernel.prctl import PR_SVE_GET_VL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.kernel.ptrace import Tracee

NT_ARM_SVE = 0x405
HEADER = struct.Struct("<IIHHHH")
REGISTERS, _PREDICATES, _FPSIMD_BYTES = 32, 16, 16
_FLAG_REGS = 1
_PR_SVE_VL_LENGTH = 0xFFFF


def regset(tracee: Tracee, note: int = NT_ARM_SVE) -> bytes:
    """A register set that kernel or CPU may lack, or the thread not use: empty then."""
    try:
        return tracee.regset(note)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENODEV):
            return b""
        raise


def own_vector_length() -> int:
    """The engine's, in bytes: what a thread is given that never asked for another. 0 on a processor without SVE."""
    try:
        return syscall(NR["prctl"], PR_SVE_GET_VL) & _PR_SVE_VL_LENGTH
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return 0


def vector_length(content: bytes) -> int:
    """In bytes, by the header of a regset."""
    return int(HEADER.unpack_from(content)[2])


def holds_vectors(content: bytes) -> bool:
    """Whether a regset holds vectors, rather than the FPSIMD registers in their place."""
    return bool(content) and bool(HEADER.unpack_from(content)[4] & _FLAG_REGS)


def size(length: int) -> int:
    """Bytes of Z0-31, P0-15 and FFR with vectors of so many."""
    return REGISTERS * length + (_PREDICATES + 1) * length // 8


def vectors(content: bytes) -> bytes:
    """Z0-31, P0-15 and FFR of a regset that holds them."""
    return content[HEADER.size : HEADER.size + size(vector_length(content))]


def is_live(content: bytes) -> bool:
    """Whether a regset holds anything beyond what FPSIMD shows."""
    if not holds_vectors(content):
        return False
    length = vector_length(content)
    found = vectors(content)
    if any(any(found[n * length + _FPSIMD_BYTES : (n + 1) * length]) for n in range(REGISTERS)):
        return True
    return any(found[REGISTERS * length :])


def live(tracee: Tracee) -> bytes:
    """The regset of a thread if anything in it is live, else nothing. The kernel fills a buffer for the longest vectors
    there could be with zeros; they are left out."""
    content = regset(tracee)
    return content[: HEADER.unpack_from(content)[0]] if is_live(content) else b""


def is_sound(content: bytes) -> bool:
    """Whether bytes from an image are a regset with vectors: the length and size agree."""
    if len(content) < HEADER.size:
        return False
    stated, _, length, _, flags, _ = HEADER.unpack_from(content)
    whole = len(content) >= HEADER.size + size(length)
    return stated == len(content) and flags == _FLAG_REGS and 0 < length <= 256 and length % 16 == 0 and whole
