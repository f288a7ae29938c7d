"""The context of a task of SELinux, and the one that its new sockets get, are what they were.

states: credentials-seccomp-and-lsm/selinux-process-context
flavours: h
needs: root, file /sys/fs/selinux/enforce
"""

from pathlib import Path

from zdtm.lib.program import equal, ready, run

ATTRIBUTES = Path("/proc/self/attr")


def main() -> None:
    context = (ATTRIBUTES / "current").read_bytes()
    (ATTRIBUTES / "sockcreate").write_bytes(context)
    ready()
    equal((ATTRIBUTES / "current").read_bytes(), context, "the context")
    equal((ATTRIBUTES / "sockcreate").read_bytes().rstrip(b"\0\n"), context.rstrip(b"\0\n"), "that of new sockets")
    (ATTRIBUTES / "sockcreate").write_bytes(b"")
    equal((ATTRIBUTES / "sockcreate").read_bytes(), b"", "that of new sockets, taken back")


if __name__ == "__main__":
    run(main)
