"""Close-on-exec belongs to a descriptor, not to its description: plain, set at open, on a duplicate, cleared later.

states: files/fd-cloexec
flavours: h
"""

import os
from fcntl import F_DUPFD, F_DUPFD_CLOEXEC, fcntl

from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    with open("file", "w"):
        pass
    closing = os.open("file", os.O_RDONLY)  # Python opens everything with O_CLOEXEC
    staying = os.open("file", os.O_RDONLY)
    os.set_inheritable(staying, True)
    fds = {
        closing: False,
        staying: True,
        fcntl(closing, F_DUPFD, 50): True,
        fcntl(staying, F_DUPFD_CLOEXEC, 60): False,
        fcntl(staying, F_DUPFD, 70): True,
    }
    ready()
    for fd, stays in fds.items():
        equal(os.get_inheritable(fd), stays, f"whether descriptor {fd} stays open over an execve()")

    reader, writer = os.pipe()
    numbers = " ".join(map(str, fds))

    def body() -> None:
        os.dup2(writer, 1)
        os.execv("/bin/sh", ["sh", "-c", f"for fd in {numbers}; do [ -e /proc/self/fd/$fd ] && echo $fd; done; true"])

    pid = child(body)
    os.close(writer)
    with open(reader) as listing:
        left = {int(line) for line in listing}
    equal(reap(pid), 0, "status of the child")
    equal(left, {fd for fd, stays in fds.items() if stays}, "open after an execve()")


if __name__ == "__main__":
    run(main)
