"""Descriptors below /proc: files of the task itself, with an offset, its directory, and a file of process 1.

states: files/procfs-descriptor
flavours: h
"""

import os

from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    with open("/proc/self/cmdline", "rb") as file:
        command = file.read()
    names = (
        "/proc/self/cmdline",
        f"/proc/{os.getpid()}/status",
        f"/proc/{os.getpid()}",
        "/proc/1/status",
        "/proc/uptime",
    )
    fds = {name: os.open(name, os.O_RDONLY) for name in names}
    mine, status, directory, first, uptime = fds.values()
    os.lseek(mine, 5, os.SEEK_SET)
    os.read(uptime, 1)
    ready()
    for name, fd in fds.items():
        check(os.path.samestat(os.fstat(fd), os.stat(name)), f"the descriptor of {name} is another file")
    equal(os.read(mine, len(command)), command[5:], "rest of the command line")
    check(f"\nPid:\t{os.getpid()}\n".encode() in os.read(status, 4096), "the status is that of another task")
    check(b"\nPid:\t1\n" in os.read(first, 4096), "the status of process 1 is that of another task")
    comm = os.open("comm", os.O_RDONLY, dir_fd=directory)
    with open("/proc/self/comm", "rb") as file:
        equal(os.read(comm, 64), file.read(), "name of the task by way of the directory")
    equal(os.lseek(uptime, 0, os.SEEK_CUR), 1, "offset in /proc/uptime")


if __name__ == "__main__":
    run(main)
