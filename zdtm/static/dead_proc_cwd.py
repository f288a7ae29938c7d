"""The current directory is /proc/PID of a child that is dead and gone.

states: deleted-files-and-remaps/dead-proc-entry-as-cwd
flavours: h
options: --link-remap
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.program import check, child, equal, ready, reap, run


def main() -> None:
    gate = Gate()
    pid = child(gate.wait)
    gate.expect(1)
    os.chdir(f"/proc/{pid}")
    gate.open()
    equal(reap(pid), 0, "status of the child")
    ready()
    try:
        os.getcwd()
    except FileNotFoundError:
        pass
    else:
        check(False, "the current directory has a name")
    for call in (lambda: os.open("stat", os.O_RDONLY), lambda: os.listdir(".")):
        try:
            call()
        except (FileNotFoundError, ProcessLookupError):
            continue
        check(False, "the current directory is that of a living task")
    check(not os.path.exists(f"/proc/{pid}"), "the dead child has come back")


if __name__ == "__main__":
    run(main)
