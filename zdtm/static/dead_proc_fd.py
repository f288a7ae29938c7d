"""Descriptors below /proc/PID of children that are dead and gone: a file, the directory, and one below it.

states: deleted-files-and-remaps/dead-proc-entry-as-fd
flavours: h, ns, uns
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run


def main() -> None:
    fds: list[int] = []
    pids: list[int] = []
    for names in (("mountinfo", ""), ("task",)):
        gate = Gate()
        pid = child(gate.wait)
        gate.expect(1)
        fds.extend(os.open(f"/proc/{pid}/{name}", os.O_RDONLY) for name in names)
        gate.open()
        equal(reap(pid), 0, "status of a child")
        pids.append(pid)
    mountinfo, directory, task = fds
    ready()
    for pid in pids:
        check(not os.path.exists(f"/proc/{pid}"), f"the dead child {pid} has come back")
    links = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]
    equal(links[0].removesuffix(" (deleted)"), f"/proc/{pids[0]}/mountinfo", "former name of the file")
    equal(links[1].removesuffix(" (deleted)"), f"/proc/{pids[0]}", "former name of the directory")
    equal(links[2].removesuffix(" (deleted)"), f"/proc/{pids[1]}/task", "former name of the directory below")
    check(os.read(mountinfo, 64), "the mounts, which an open file keeps alive, cannot be read")
    for fd in (directory, task):
        # The kernel says ENOENT here, which the C library takes for the end of the directory.
        equal(os.listdir(fd), [], "names in a directory of a dead task")


if __name__ == "__main__":
    run(main)
