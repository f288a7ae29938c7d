"""Tasks that may be dumped by the kernel, and that may not: by their own choice, and by a change of user.

states: credentials-seccomp-and-lsm/dumpable
flavours: h
needs: root
"""

import os

from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_GET_DUMPABLE, PR_SET_DUMPABLE, prctl
from zdtm.lib.program import child, equal, ready, reap, run


def main() -> None:
    gate = Gate()
    with open("/proc/sys/fs/suid_dumpable") as file:
        system_default = int(file.read())

    def body(wanted: int | None) -> None:
        """The change of user makes a task as dumpable as the system says, which is in general not at all."""
        if wanted is None:
            os.setresuid(1, 1, 1)
        else:
            prctl(PR_SET_DUMPABLE, wanted)
        expected = system_default if wanted is None else wanted
        equal(prctl(PR_GET_DUMPABLE), expected, "dumpable before")
        gate.wait()
        equal(prctl(PR_GET_DUMPABLE), expected, "dumpable")

    pids = [child(lambda wanted=wanted: body(wanted)) for wanted in (1, 0, None)]  # type: ignore[misc]
    gate.expect(len(pids))
    owners = [os.stat(f"/proc/{pid}/status").st_uid for pid in pids]
    ready()
    # The files in /proc of a task that is not dumpable belong to root.
    equal([os.stat(f"/proc/{pid}/status").st_uid for pid in pids], owners, "owners of files in /proc")
    gate.open()
    equal([reap(pid) for pid in pids], [0] * len(pids), "statuses of the children")


if __name__ == "__main__":
    run(main)
