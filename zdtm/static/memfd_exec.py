"""Programs in memfds that are ready to be executed: nobody has them open or mapped for writing, which would make
execve() say ETXTBSY.

states: memory/memfd-executability
flavours: h
kernel: MFD_EXEC, MFD_NOEXEC_SEAL
"""

import os

from zdtm.lib.memory import PAGE, PRIVATE, READ, RW, SHARED, mmap
from zdtm.lib.program import child, equal, ready, reap, run

SCRIPT = b"#!/bin/sh\nexit 42\n"


def program(name: str, contents: bytes) -> int:
    """A read-only descriptor of a memfd with these contents; the writable one is closed."""
    writable = os.memfd_create(name, 0)
    os.write(writable, contents)
    os.fchmod(writable, 0o755)
    fd = os.open(f"/proc/self/fd/{writable}", os.O_RDONLY)
    os.close(writable)
    return fd


def main() -> None:
    with open("/bin/true", "rb") as file:
        true = program("binary", file.read())
    plain, opened, private, shared = (program(name, SCRIPT) for name in ("plain", "opened", "private", "shared"))
    os.open(f"/proc/self/fd/{opened}", os.O_RDONLY)
    mmap(PAGE, RW, PRIVATE, private)
    mmap(PAGE, READ, SHARED, shared)
    ready()
    for fd, status in {true: 0, plain: 42, opened: 42, private: 42, shared: 42}.items():
        # The interpreter of a script opens it as /dev/fd/N, so it must stay open.
        os.set_inheritable(fd, True)
        name = os.readlink(f"/proc/self/fd/{fd}")
        pid = child(lambda fd=fd: os.execve(fd, ["memfd"], {}))  # type: ignore[misc]
        equal(os.waitstatus_to_exitcode(reap(pid)), status, f"exit status of {name}")


if __name__ == "__main__":
    run(main)
