"""A plugin for /dev/cpu_dma_latency: a process that has it open limits how deeply processors may sleep.

The limit, in microseconds, is written to the device and holds until it is closed; nothing else of it matters. Reading
gives the strictest limit of all processes, which may be stricter than the one that this process has asked for.
See the kernel's Documentation/power/pm_qos_interface.rst.
"""

import os
import stat

DEVICE = "/dev/cpu_dma_latency"
SIZE = 4
NO_LIMIT = 2_000_000_000  # PM_QOS_CPU_LATENCY_DEFAULT_VALUE in microseconds


def dump_ext_file(fd: int, number: int) -> bytes | None:
    """What is to be remembered of a file that the engine does not know; None: this one is not ours."""
    device = os.fstat(fd)
    if not stat.S_ISCHR(device.st_mode) or device.st_rdev != os.stat(DEVICE).st_rdev:
        return None
    return os.pread(fd, SIZE, 0)


def restore_ext_file(state: bytes, number: int) -> int:
    """A new descriptor. What images hold is not to be trusted: the kernel takes any four bytes as a limit."""
    if len(state) != SIZE:
        raise ValueError(f"a limit has {SIZE} bytes, this one has {len(state)}")
    fd = os.open(DEVICE, os.O_RDWR)
    if int.from_bytes(state, "little") != NO_LIMIT:
        os.write(fd, state)
    return fd
