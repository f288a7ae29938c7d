"""Two descriptors, opened by two names of one file; both names are gone.

states: deleted-files-and-remaps/two-names-both-removed
flavours: h
"""

import os

from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    os.mkdir("elsewhere")
    first = os.open("one name", os.O_RDWR | os.O_CREAT)
    os.link("one name", "elsewhere/another name")
    second = os.open("elsewhere/another name", os.O_RDWR)
    os.write(first, b"text of both")
    os.unlink("one name")
    os.unlink("elsewhere/another name")
    ready()
    check(os.path.sameopenfile(first, second), "the two descriptors are of two files now")
    equal(os.fstat(first).st_nlink, 0, "number of names")
    equal(sorted(os.listdir()) + os.listdir("elsewhere"), ["elsewhere"], "names in both directories")
    equal(os.read(second, 64), b"text of both", "contents by the second descriptor")
    equal(os.lseek(first, 0, os.SEEK_CUR), 12, "offset of the first descriptor")
    os.write(first, b", and more")
    equal(os.read(second, 64), b", and more", "what the first descriptor wrote")


if __name__ == "__main__":
    run(main)
