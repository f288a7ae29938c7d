"""What a program gets from outside of its tree, and that the outside may say no."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zdtm.harness import header
from zdtm.harness.outside import Supplier
from zdtm.lib.program import Failure

PROGRAM = '''"""X.

outside: Ends
"""
import os
from zdtm.lib.outside import Outside
from zdtm.lib.program import equal
class Ends(Outside):
    def supply(self):
        reader, writer = os.pipe()
        self.keep(reader)
        return [writer, os.open("/dev/null", os.O_RDWR), os.memfd_create("m"), os.open("/etc/passwd", os.O_RDONLY)]
    def external(self, fd):
        return f'unix[{os.fstat(fd).st_ino}]'
    def check(self):
        equal(os.read(self.kept[0], 9), b"x", "the word")
'''


@pytest.fixture
def supplier(tmp_path: Path) -> Supplier:
    path = tmp_path / "static" / "p.py"
    path.parent.mkdir()
    path.write_text(PROGRAM)
    return Supplier(header.read(path), tmp_path)


def test_descriptors_and_options(supplier: Supplier) -> None:
    supplier.supply()
    assert list(supplier.descriptors) == [3, 4, 5, 6]
    first = list(supplier.descriptors.values())
    pipe, null = (os.fstat(fd) for fd in first[:2])
    assert supplier.dump_options()[:2] == ["--external", f"unix[{pipe.st_ino}]"]
    supplier.hand_over()
    options = supplier.restore_options()
    keys = [f"pipe:[{pipe.st_ino}]", f"tty[{null.st_rdev:x}:{null.st_dev:x}]", "/memfd:m", "etc/passwd"]
    assert options == [w for number, key in enumerate(keys, 3) for w in ("--inherit-fd", f"fd[{number}]:{key}")]
    assert os.fstat(supplier.descriptors[3]).st_ino != pipe.st_ino
    supplier.hand_over()
    supplier.close()


@pytest.mark.parametrize("word", [b"x", b"y"])
def test_the_last_word(supplier: Supplier, word: bytes) -> None:
    supplier.supply()
    os.write(supplier.descriptors[3], word)
    supplier.hand_over()
    if word == b"x":
        supplier.check()
    else:
        with pytest.raises(Failure, match="the word"):
            supplier.check()
    supplier.close()
