"""An unlinked file that is still open: half read, with an owner, a mode and a time of modification.

states: deleted-files-and-remaps/unlinked-regular-file-ghost, deleted-files-and-remaps/ghost-attributes
flavours: h
needs: root
"""

import os
import stat

from zdtm.lib.memory import pattern
from zdtm.lib.program import equal, ready, run

CONTENTS = pattern(99, 1_000_000) + b"and a bit"


def main() -> None:
    fd = os.open("file", os.O_RDWR | os.O_CREAT)
    os.write(fd, CONTENTS)
    os.lseek(fd, 12345, os.SEEK_SET)
    os.fchown(fd, 1001, 1002)
    os.fchmod(fd, 0o6604)  # after fchown(), which clears the set-user-ID bit
    os.utime(fd, (99999, 123456))
    os.unlink("file")
    ready()
    status = os.fstat(fd)
    equal(oct(stat.S_IMODE(status.st_mode)), oct(0o6604), "mode")
    equal((status.st_uid, status.st_gid), (1001, 1002), "owner")
    equal(status.st_mtime, 123456, "time of modification")
    equal(status.st_nlink, 0, "number of names")
    equal(status.st_size, len(CONTENTS), "size")
    equal(os.readlink(f"/proc/self/fd/{fd}"), os.path.abspath("file") + " (deleted)", "former name")
    equal(os.listdir(), [], "names in the directory")
    equal(os.read(fd, len(CONTENTS)), CONTENTS[12345:], "contents from the offset on")
    equal(os.pread(fd, len(CONTENTS), 0), CONTENTS, "contents")
    os.pwrite(fd, b"written", len(CONTENTS))
    equal(os.pread(fd, 64, len(CONTENTS)), b"written", "what was written afterwards")


if __name__ == "__main__":
    run(main)
