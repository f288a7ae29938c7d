"""A file that was written, and one that was mapped, and that nobody has open any more.

states: files/closed-regular-file
flavours: h
"""

import os

from zdtm.lib.memory import PAGE, RW, SHARED, mmap, munmap, pattern, poke
from zdtm.lib.program import equal, ready, run


def facts(name: str) -> dict[str, object]:
    status = os.stat(name)
    with open(name, "rb") as file:
        contents = file.read()
    times = status.st_mtime_ns, status.st_ctime_ns
    return {"mode": status.st_mode, "inode": status.st_ino, "times": times, "contents": contents}


def main() -> None:
    with open("written", "wb") as file:
        file.write(b"written and closed")
    with open("mapped", "w+b") as file:
        file.truncate(PAGE)
        area = mmap(PAGE, RW, SHARED, file.fileno())
    poke(area, pattern(5))
    munmap(area, PAGE)
    before = {name: facts(name) for name in ("written", "mapped")}
    ready()
    equal(sorted(os.listdir()), sorted(before), "names in the directory")
    for name, expected in before.items():
        equal(facts(name), expected, f"the {name} file")


if __name__ == "__main__":
    run(main)
