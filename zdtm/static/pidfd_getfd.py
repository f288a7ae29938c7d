"""Descriptors taken from a child by pidfd_getfd(2): they share the child's open files, offset, data and all.

states: pidfds/fd-stolen-with-pidfd-getfd
flavours: h
kernel: pidfd_getfd
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.libc import call
from zdtm.lib.proc import fdinfo
from zdtm.lib.program import child, equal, ready, reap, run

PIPE_FD, FILE_FD = 50, 51


def main() -> None:
    gate = Gate()

    def victim() -> None:
        reader, writer = os.pipe()
        os.write(writer, b"data")
        os.dup2(reader, PIPE_FD)
        os.dup2(os.open("file", os.O_RDWR | os.O_CREAT, 0o600), FILE_FD)
        os.write(FILE_FD, b"0123456789")
        os.lseek(FILE_FD, 2, os.SEEK_SET)
        gate.wait()
        equal(os.lseek(FILE_FD, 0, os.SEEK_CUR), 5, "offset that the thief has moved")
        os.close(PIPE_FD)
        os.write(writer, b"more")

    pid = child(victim)
    gate.expect(1)
    pidfd = os.pidfd_open(pid)
    pipe, file = (call("pidfd_getfd", pidfd, fd, 0) for fd in (PIPE_FD, FILE_FD))
    ready()
    equal(int(fdinfo(pidfd)["Pid"]), pid, "pid that the pidfd stands for")
    equal(os.read(file, 3), b"234", "what is at the offset of the file")
    equal(os.read(pipe, 64), b"data", "what is in the pipe")
    gate.open()
    info = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
    equal(info and info.si_pid, pid, "who has ended")
    equal(reap(pid), 0, "status of the child")
    equal(os.read(pipe, 64), b"more", "what the child wrote last")
    equal(os.read(pipe, 64), b"", "end of the pipe once the child is dead")


if __name__ == "__main__":
    run(main)
