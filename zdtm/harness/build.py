"""Compiles the programs in C, each once: the result's name holds a hash of everything that went into it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from zdtm.harness.header import Program

LIB = Path(__file__).parent.parent / "lib"
FRAME = LIB / "zdtmtst.c"
CFLAGS = (
    "-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-Wl,-z,now", "-D_GNU_SOURCE",
    f"-I{LIB}",
)  # fmt: skip
"""-z now: a function that is bound when it is first called writes to memory, at any time."""


class CannotBuild(Exception):
    """The compiler said no; its output is the message."""


def compiler() -> str | None:
    return os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")


def executable(program: Program, cache: Path) -> Path:
    """Path of the compiled program, compiled now if need be. Raises CannotBuild.

    xdist workers share the cache: the compiler writes to a name of its own, and the first that has finished gives the
    file its name, for good: it may run already when a second one comes.
    """
    cc = compiler()
    if cc is None:
        raise CannotBuild("no C compiler: install one or set CC")
    flags = [*CFLAGS, *program.cflags]
    made = cache / f"{program.path.stem}-{_hash(program, cc, flags)}"
    if made.exists():
        return made
    cache.mkdir(parents=True, exist_ok=True)
    # mkdtemp makes 0700; the program may run with other credentials, so only the finished file moves out.
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        result = Path(scratch) / program.path.stem
        command = [cc, "-o", str(result), str(program.path), str(FRAME), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotBuild(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        with contextlib.suppress(FileExistsError):
            os.link(result, made)
    return made


def _hash(program: Program, cc: str, flags: list[str]) -> str:
    digest = hashlib.sha256(repr((cc, flags)).encode())
    for source in (program.path, FRAME, *sorted(LIB.glob("*.h"))):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:16]
