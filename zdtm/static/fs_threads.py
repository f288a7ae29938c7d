"""Two threads share their fs_struct: what one does to the current directory or the umask, the other sees.

states: files/fs-struct-sharing
flavours: h
"""

import ctypes
import os
import platform

from zdtm.lib.proc import KCMP
from zdtm.lib.program import check, equal, ready, run, spawn_thread, workdir

KCMP_FS = 3


def shares_fs(tid1: int, tid2: int) -> bool:
    libc = ctypes.CDLL(None)
    return bool(libc.syscall(KCMP[platform.machine()], tid1, tid2, KCMP_FS, 0, 0) == 0)


def main() -> None:
    os.mkdir("first")
    os.mkdir("second")
    os.chdir("first")
    reader, writer = os.pipe()
    done_reader, done_writer = os.pipe()
    seen: list[str] = []

    def body() -> None:
        os.write(done_writer, b"!")
        os.read(reader, 1)
        seen.append(os.getcwd())
        os.chdir("../second")
        os.umask(0o051)

    thread = spawn_thread(body)
    os.read(done_reader, 1)
    ready()
    check(shares_fs(os.getpid(), thread.native_id or 0), "the threads share no fs_struct")
    os.write(writer, b"!")
    thread.join()
    equal(seen, [os.path.join(workdir(), "first")], "current directory as the thread saw it")
    equal(os.getcwd(), os.path.join(workdir(), "second"), "current directory after the thread has changed it")
    equal(os.umask(0), 0o051, "umask after the thread has changed it")


if __name__ == "__main__":
    run(main)
