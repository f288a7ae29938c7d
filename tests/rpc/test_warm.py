"""A worker of a service has nothing left to load."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
import os, sys, tempfile
from bench import subjects
from engine import cli
from engine.rpc.warm import load_everything
load_everything()
place = tempfile.TemporaryDirectory()
loaded = set(sys.modules)

def command(*words):
    pid = os.fork()
    if not pid:
        status = cli.main(["crucible", *words])
        print(*sorted(set(sys.modules) - loaded), flush=True)
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0

with subjects.running(subjects.python()) as pid, place as images:
    command("dump", "-D", images, "-t", str(pid), "-o", "dump.log")
    subjects.await_end(pid)
    command("restore", "-d", "-D", images, "-o", "restore.log")
"""


def test_everything_is_loaded() -> None:
    run = subprocess.run([sys.executable, "-c", _PROGRAM], stdout=subprocess.PIPE, text=True, check=True)
    assert run.stdout.split() == []
