"""A task in a hat of AppArmor's goes back by a number that only it knows, so it can't be put there again.

states: credentials-seccomp-and-lsm/apparmor-profile
flavours: h
kernel: security modules
needs: root, tool apparmor_parser, file /sys/kernel/security/apparmor/profiles
expect: refuse is in AppArmor's hat zdtm_hats//hat, .*dump again when it has left the hat
"""

import subprocess
from pathlib import Path

from zdtm.lib.program import equal, ready, run

RULES = "file, capability, network, unix, signal, ptrace, mount,"
PROFILE = f"profile zdtm_hats {{ {RULES} change_profile -> **, ^hat {{ {RULES} }} }}"
NUMBER = "00000000c0ffee00"
CURRENT = Path("/proc/self/attr/current")


def main() -> None:
    subprocess.run(["apparmor_parser", "--replace"], input=PROFILE, text=True, check=True)
    CURRENT.write_text("changeprofile zdtm_hats")
    CURRENT.write_text(f"changehat {NUMBER}^hat\0")
    ready()
    equal(CURRENT.read_text().split(" (")[0], "zdtm_hats//hat", "the hat")
    CURRENT.write_text(f"changehat {NUMBER}^")
    equal(CURRENT.read_text().split(" (")[0], "zdtm_hats", "the profile")


if __name__ == "__main__":
    run(main)
