"""Secure bits of tasks: some, all with their locks, and none; with them, a change of user keeps or loses capabilities.

states: credentials-seccomp-and-lsm/capabilities
flavours: h
needs: root
"""

import os

from zdtm.lib.capabilities import get_sets
from zdtm.lib.gate import Gate
from zdtm.lib.libc import PR_GET_SECUREBITS, PR_SET_SECUREBITS, prctl
from zdtm.lib.program import check, child, equal, ready, reap, run

SECBIT_NOROOT = 1 << 0
SECBIT_NO_SETUID_FIXUP = 1 << 2
SECBIT_KEEP_CAPS = 1 << 4
ALL_LOCKED = 0xFF
CASES = (0, SECBIT_NOROOT | SECBIT_NO_SETUID_FIXUP, SECBIT_KEEP_CAPS, ALL_LOCKED)


def main() -> None:
    gate = Gate()

    def body(bits: int) -> None:
        prctl(PR_SET_SECUREBITS, bits)
        gate.wait()
        equal(prctl(PR_GET_SECUREBITS), bits, "secure bits")
        if bits == ALL_LOCKED:
            try:
                prctl(PR_SET_SECUREBITS, 0)
                check(False, "locked secure bits can be changed")
            except PermissionError:
                pass
        before = get_sets()
        os.setresuid(1, 1, 1)
        now = get_sets()
        expected = before.effective if bits & SECBIT_NO_SETUID_FIXUP else 0
        equal(now.effective, expected, f"effective capabilities of another user, bits {bits:#x}")
        keeps = bits & (SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS)
        equal(now.permitted, before.permitted if keeps else 0, f"permitted capabilities, bits {bits:#x}")

    pids = [child(lambda bits=bits: body(bits)) for bits in CASES]  # type: ignore[misc]
    gate.expect(len(pids))
    ready()
    gate.open()
    equal([reap(pid) for pid in pids], [0] * len(pids), "statuses of the children")


if __name__ == "__main__":
    run(main)
