"""Tasks are confined by several profiles of AppArmor at once, and by profiles of namespaces, which are gone before the
restore.

states: credentials-seccomp-and-lsm/apparmor-stacking
flavours: h
kernel: security modules
needs: root, tool apparmor_parser, file /sys/kernel/security/apparmor/features/domain/stack
outside: Namespaces
"""

import os
import subprocess
from pathlib import Path

from zdtm.lib.outside import Outside
from zdtm.lib.program import child, equal, finish, ready, run, wait_term, wait_until

POLICY = Path("/sys/kernel/security/apparmor/policy/namespaces")
RULES = "file, capability, network, unix, signal, ptrace, mount, change_profile -> **,"
CURRENT = Path("/proc/self/attr/current")
NAME = Path("namespace")
"""In the program's directory: what its namespace is called."""


class Namespaces(Outside):
    """Takes away the namespace before each restore."""

    def supply(self) -> list[int]:
        self._remove()
        return []

    def check(self) -> None:
        equal(self._remove(), True, "whether the namespace is there")

    def _remove(self) -> bool:
        name = self.directory / NAME
        namespace = POLICY / name.read_text() if name.exists() else None
        if namespace is None or not namespace.exists():
            return False
        namespace.rmdir()
        return True


def load(*profiles: str, options: tuple[str, ...] = ()) -> None:
    rules = "\n".join(f"profile {name} {{ {RULES} profile part {{ {RULES} }} }}" for name in profiles)
    command = ["apparmor_parser", "--skip-cache", *options, "--replace"]
    subprocess.run(command, input=rules, text=True, check=True)


def load_into(namespace: Path, *profiles: str) -> None:
    """As who manages a namespace from inside does it: what is loaded does not name it."""
    rules = "\n".join(f"profile {name} {{ {RULES} }}" for name in profiles)
    command = ["apparmor_parser", "--skip-cache", "--skip-kernel-load", "--stdout"]
    compiled = subprocess.run(command, input=rules.encode(), stdout=subprocess.PIPE, check=True).stdout
    (namespace / ".load").write_bytes(compiled)


def confined(label: str) -> int:
    """A child with a label. It sees itself as who is in the last namespace of it does."""

    def body() -> None:
        CURRENT.write_text(f"changeprofile {label}")
        before = CURRENT.read_text()
        wait_term()
        equal(CURRENT.read_text(), before, f"what was {label}")

    return child(body, block_term=True)


def seen(pid: int) -> str:
    return Path(f"/proc/{pid}/attr/current").read_text()


def main() -> None:
    name = f"zdtm-{os.urandom(4).hex()}"
    NAME.write_text(name)
    load("zdtm_one", "zdtm_two")
    load("zdtm_named", options=("--namespace", name))
    load_into(POLICY / name, "zdtm_inner", "zdtm_other")
    (POLICY / name / "namespaces/below").mkdir()
    load_into(POLICY / name / "namespaces/below", "zdtm_deep")
    labels = [
        "zdtm_one//&zdtm_two",
        f":{name}:zdtm_inner",
        f":{name}:zdtm_named//part",
        f"zdtm_one//&:{name}:zdtm_named//&:{name}:zdtm_other",
        f"zdtm_two//&:{name}:unconfined",
        f":{name}//below:zdtm_deep",
    ]
    children = [confined(label) for label in labels]
    wait_until(lambda: all(seen(pid) != "unconfined\n" for pid in children), "labels")
    before = [seen(pid) for pid in children]
    ready()
    equal([seen(pid) for pid in children], before, "labels as seen from outside")
    for pid in children:
        finish(pid)


if __name__ == "__main__":
    run(main)
