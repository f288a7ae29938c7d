"""Two tables of descriptors, each shared by two tasks (CLONE_FILES): parent and child, and another child and its
child.

states: files/shared-descriptor-table
flavours: h
"""

import os
import signal
from collections.abc import Callable

from zdtm.lib.libc import fork_sharing_files
from zdtm.lib.proc import open_fds
from zdtm.lib.program import child, equal, finish, ready, run, wait_term, wait_until

OLD, NEW, OTHER = 50, 51, 52
"""Numbers: open everywhere at the checkpoint; opened afterwards in the parent's table, and in the other one"""


def open_at(fd: int) -> None:
    opened = os.open("file", os.O_RDONLY | os.O_CREAT)
    os.dup2(opened, fd)
    os.close(opened)


def which(expected: set[int]) -> None:
    equal({fd for fd in open_fds() if fd in (OLD, NEW, OTHER)}, expected, f"descriptors open in {os.getpid()}")


def waiting(body: Callable[[], None]) -> Callable[[], None]:
    def wait() -> None:
        wait_term()
        body()

    return wait


def share_with_child() -> None:
    """The parent of the second table."""
    fellow = child(waiting(lambda: which({OTHER})), block_term=True, fork=fork_sharing_files)
    signal.sigwaitinfo({signal.SIGTERM})
    which({OLD})
    os.close(OLD)
    open_at(OTHER)
    finish(fellow)


def shared_by_parent() -> None:
    which({OLD, NEW})
    os.close(OLD)


def main() -> None:
    open_at(OLD)
    separate = child(share_with_child, block_term=True)
    fellow = child(waiting(shared_by_parent), block_term=True, fork=fork_sharing_files)
    wait_until(lambda: has_child(separate), "the other child has a child")
    ready()
    which({OLD})
    open_at(NEW)
    finish(fellow)
    which({NEW})
    finish(separate)
    which({NEW})


def has_child(pid: int) -> bool:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return bool(file.read())


if __name__ == "__main__":
    run(main)
