"""A task has entered a profile of AppArmor, and is in it afterwards.

states: credentials-seccomp-and-lsm/apparmor-profile
flavours: h
kernel: security modules
needs: root, tool apparmor_parser, file /sys/kernel/security/apparmor/profiles
"""

import subprocess
from pathlib import Path

from zdtm.lib.program import equal, ready, run

PROFILE = "zdtm_profile"
RULES = f"profile {PROFILE} {{ file, capability, network, unix, signal, ptrace, mount, change_profile -> **, }}"
CURRENT = Path("/proc/self/attr/current")


def main() -> None:
    subprocess.run(["apparmor_parser", "--replace"], input=RULES, text=True, check=True)
    CURRENT.write_text(f"changeprofile {PROFILE}")
    before = CURRENT.read_text()
    equal(before.split(" (")[0], PROFILE, "the profile")
    ready()
    equal(CURRENT.read_text(), before, "the profile")


if __name__ == "__main__":
    run(main)
