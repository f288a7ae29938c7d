"""A memfd with contents, holes, a size, a mode, append mode, an offset and close-on-exec; and an empty one with the
same name.

states: memory/memfd-description
flavours: h
"""

import fcntl
import os

from zdtm.lib.memory import PAGE, pattern
from zdtm.lib.program import check, equal, ready, run

FLAGS = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK
CONTENTS = pattern(1) + pattern(2)[:1000]
SIZE = 50 * PAGE + 123


def describe(fd: int) -> dict[str, object]:
    status = os.fstat(fd)
    return {
        "link": os.readlink(f"/proc/self/fd/{fd}"),
        "flags": fcntl.fcntl(fd, fcntl.F_GETFL) & FLAGS,
        "close-on-exec": not os.get_inheritable(fd),
        "offset": os.lseek(fd, 0, os.SEEK_CUR),
        "device": status.st_dev,
        "size": status.st_size,
        "mode": oct(status.st_mode),
        "owner": (status.st_uid, status.st_gid),
        "names": status.st_nlink,
        "blocks": status.st_blocks,
        "seals": fcntl.fcntl(fd, fcntl.F_GET_SEALS),
    }


def main() -> None:
    full = os.memfd_create("odd name/%s\n", os.MFD_CLOEXEC)
    empty = os.memfd_create("odd name/%s\n", os.MFD_ALLOW_SEALING)
    os.write(full, CONTENTS)
    os.ftruncate(full, SIZE)
    os.fchmod(full, 0o642)
    os.fchown(full, 1234, 5678)
    os.set_inheritable(empty, True)
    fcntl.fcntl(full, fcntl.F_SETFL, os.O_APPEND)
    os.lseek(full, 777, os.SEEK_SET)
    before = {fd: describe(fd) for fd in (full, empty)}
    ready()
    for fd, facts in before.items():
        equal(describe(fd), facts, f"memfd {fd}")
    check(not os.path.sameopenfile(full, empty), "the two memfds have become one")
    equal(os.lseek(full, 0, os.SEEK_HOLE), 2 * PAGE, "end of the data, where the hole begins")
    os.lseek(full, 777, os.SEEK_SET)
    equal(os.read(full, 2 * SIZE), CONTENTS[777:] + bytes(SIZE - len(CONTENTS)), "contents from the offset on")
    os.lseek(full, 0, os.SEEK_SET)
    os.write(full, b"appended")
    equal(os.pread(full, 64, SIZE), b"appended", "what was appended")


if __name__ == "__main__":
    run(main)
