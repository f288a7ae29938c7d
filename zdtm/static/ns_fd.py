"""Descriptors of all the namespaces that the task is in.

states: files/namespace-file-descriptor
flavours: h
modes: not lazy-remote: the other sandbox has other namespaces
"""

import ctypes
import fcntl
import os

from zdtm.lib.program import check, equal, ready, run

NS_GET_NSTYPE = 0xB703


def main() -> None:
    kinds = sorted(os.listdir("/proc/self/ns"))
    fds = {kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY) for kind in kinds}
    types = {kind: fcntl.ioctl(fd, NS_GET_NSTYPE) for kind, fd in fds.items()}
    ready()
    for kind, fd in fds.items():
        path = f"/proc/self/ns/{kind}"
        check(os.path.samestat(os.fstat(fd), os.stat(path)), f"the descriptor is not the {kind} namespace of the task")
        equal(os.readlink(f"/proc/self/fd/{fd}"), os.readlink(path), f"name of the {kind} namespace")
        equal(fcntl.ioctl(fd, NS_GET_NSTYPE), types[kind], f"type of the {kind} namespace")
    libc = ctypes.CDLL(None, use_errno=True)
    equal(libc.setns(fds["net"], 0), 0, "result of joining the net namespace by the descriptor")


if __name__ == "__main__":
    run(main)
