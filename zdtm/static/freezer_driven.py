"""A tree in a control group and one below it, whose freezer stops it for the dump and is then what it was.

states: cgroups-v1/freezer-driven-dump
flavours: h
needs: root, file /sys/fs/cgroup/freezer/cgroup.procs
outside: Group
oracle: ignore cgroup: tasks come back into the group of the engine
"""

import os
from contextlib import suppress
from pathlib import Path

from zdtm.lib.outside import Outside
from zdtm.lib.program import child, equal, ready, run, workdir

CHILDREN = 5


def group_of(directory: Path) -> Path:
    """The group for the item that works in a directory."""
    return Path("/sys/fs/cgroup/freezer") / str(directory).strip("/").replace("/", "-")


class Group(Outside):
    """Makes the group, and takes it away when nobody is in it."""

    def supply(self) -> list[int]:
        (group_of(self.directory) / "inner").mkdir(parents=True, exist_ok=True)
        return []

    def dump_options(self) -> list[str]:
        return ["--freeze-cgroup", str(group_of(self.directory))]

    def check(self) -> None:
        equal((group_of(self.directory) / "freezer.state").read_text(), "THAWED\n", "state of the group")

    def close(self) -> None:
        super().close()
        for directory in (group_of(self.directory) / "inner", group_of(self.directory)):
            with suppress(OSError):
                directory.rmdir()


def echo(reader: int, writer: int) -> None:
    while data := os.read(reader, 64):
        os.write(writer, data)


def main() -> None:
    group = group_of(Path(workdir()))
    (group / "cgroup.procs").write_text("0")
    to_children, from_children = os.pipe(), os.pipe()

    def body() -> None:
        (group / "inner" / "cgroup.procs").write_text("0")
        os.close(to_children[1])
        os.write(from_children[1], b"r")
        echo(to_children[0], from_children[1])

    for _ in range(CHILDREN):
        child(body)
    os.close(to_children[0])
    for _ in range(CHILDREN):
        equal(os.read(from_children[0], 1), b"r", "word of a child that is in its group")
    ready()
    os.write(to_children[1], b"x")
    equal(os.read(from_children[0], 64), b"x", "echo of a child")
    os.close(to_children[1])
    for _ in range(CHILDREN):
        equal(os.wait()[1], 0, "status of a child")


if __name__ == "__main__":
    run(main)
