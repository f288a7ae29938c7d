"""Open files on a tmpfs whose directories have been removed, one below the other, while another hard link is alive
elsewhere in the same mount; a mapping of one of them.

states: deleted-files-and-remaps/unlinked-file-in-removed-directory
flavours: h
needs: root
modes: not snapshot: the link of a successful dump stays, and the original that goes on sees it
options: --link-remap
"""

import mmap
import os
from pathlib import Path

from zdtm.lib.libc import call
from zdtm.lib.program import check, equal, ready, run

MNT_DETACH = 2


def main() -> None:
    os.mkdir("mounted")
    place = os.fsencode(Path.cwd() / "mounted")
    call("mount", b"tmpfs", place, b"tmpfs", 0, None)
    try:
        os.makedirs("mounted/outer/inner")
        Path("mounted/alive").write_text("still here")
        os.link("mounted/alive", "mounted/outer/inner/lost")
        os.link("mounted/alive", "mounted/outer/lost, too")
        inner = os.open("mounted/outer/inner/lost", os.O_RDWR)
        outer = os.open("mounted/outer/lost, too", os.O_RDONLY)
        mapping = mmap.mmap(inner, 0)
        os.unlink("mounted/outer/inner/lost")
        os.unlink("mounted/outer/lost, too")
        os.rmdir("mounted/outer/inner")
        os.rmdir("mounted/outer")
        before = os.fstat(inner)
        ready()
        equal(os.listdir("mounted"), ["alive"], "names on the tmpfs")
        for fd in (inner, outer):
            check(os.path.samestat(os.fstat(fd), before), "a descriptor has become another file")
            check(os.path.samestat(os.fstat(fd), os.stat("mounted/alive")), "descriptor and name have come apart")
            equal(os.fstat(fd).st_nlink, 1, "number of names")
        os.pwrite(inner, b"STILL", 0)
        equal(mapping[:], b"STILL here", "what the mapping shows of a write")
        equal(os.read(outer, 64), b"STILL here", "what the other descriptor reads of it")
        mapping.close()
        os.close(inner)
        os.close(outer)
    finally:
        call("umount2", place, MNT_DETACH)


if __name__ == "__main__":
    run(main)
