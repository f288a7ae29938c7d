"""Sixteen mappings: no access, read, read-write and read-write-execute, private and shared, of files and anonymous.

states: memory/vma-all-prot-x-private-shared-x-file-anon
flavours: h
kernel: how mappings are merged
"""

import os
import signal
from dataclasses import dataclass

from zdtm.lib.memory import (
    ANON,
    EXEC,
    NONE,
    PAGE,
    PRIVATE,
    READ,
    RW,
    RWX,
    SHARED,
    WRITE,
    execute,
    mmap,
    mprotect,
    pattern,
    peek,
    poke,
    readable,
    return_42,
    vma_at,
    writable,
)
from zdtm.lib.program import child, equal, ready, reap, run

LENGTH = 3 * PAGE


@dataclass(frozen=True)
class Mapping:
    address: int
    prot: int
    sharing: int
    file: str | None
    contents: bytes

    def __str__(self) -> str:
        sharing = "shared" if self.sharing == SHARED else "private"
        return f"{sharing} mapping of {self.file or 'nothing'} with protection {self.prot}"


def make(number: int, prot: int, sharing: int, of_file: bool) -> Mapping:
    contents = (return_42() + pattern(number, LENGTH))[:LENGTH]
    fd, name = -1, None
    if of_file:
        name = f"file{number}"
        fd = os.open(name, os.O_RDWR | os.O_CREAT)
        os.write(fd, pattern(100 + number, LENGTH))
    address = mmap(LENGTH, RW, sharing | (0 if of_file else ANON), fd)
    poke(address, contents)
    mprotect(address, LENGTH, prot)
    if of_file:
        os.close(fd)
    return Mapping(address, prot, sharing, name, contents)


def test_rights(mapping: Mapping) -> None:
    perms = "".join(letter if mapping.prot & bit else "-" for letter, bit in (("r", READ), ("w", WRITE), ("x", EXEC)))
    equal(vma_at(mapping.address).perms, perms + "ps"[mapping.sharing == SHARED], f"rights shown of the {mapping}")
    for page in range(mapping.address, mapping.address + LENGTH, PAGE):
        equal(readable(page), bool(mapping.prot & READ), f"right to read the {mapping}")
        equal(writable(page), bool(mapping.prot & WRITE), f"right to write the {mapping}")
    pid = child(lambda: equal(execute(mapping.address), 42, f"result of the code in the {mapping}"))
    expected = 0 if mapping.prot & EXEC else -signal.SIGSEGV
    equal(os.waitstatus_to_exitcode(reap(pid)), expected, f"end of a child that executed the {mapping}")


def main() -> None:
    kinds = [
        (prot, sharing, of_file)
        for prot in (NONE, READ, RW, RWX)
        for sharing in (PRIVATE, SHARED)
        for of_file in (False, True)
    ]
    mappings = [make(number, *kind) for number, kind in enumerate(kinds)]
    ready()
    for mapping in mappings:
        test_rights(mapping)
        mprotect(mapping.address, LENGTH, READ)
        equal(peek(mapping.address, LENGTH), mapping.contents, f"contents of the {mapping}")
    for number, mapping in enumerate(mappings):
        if mapping.file:
            written = mapping.contents if mapping.sharing == SHARED else pattern(100 + number, LENGTH)
            with open(mapping.file, "rb") as file:
                equal(file.read(), written, f"the file below the {mapping}")


if __name__ == "__main__":
    run(main)
