"""The login uid of a task, which can be written once in the life of many a kernel, and one that was never set.

states: credentials-seccomp-and-lsm/loginuid
flavours: h
kernel: whether there is an audit user
needs: root, feature loginuid
"""

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run


def read_loginuid(pid: int | str = "self") -> int:
    with open(f"/proc/{pid}/loginuid") as file:
        return int(file.read())


def main() -> None:
    gate = Gate()

    def body() -> None:
        with open("/proc/self/loginuid", "w") as file:
            file.write("3")
        gate.wait()
        equal(read_loginuid(), 3, "login uid, as the task sees it")

    pid = child(body)
    gate.expect(1)
    before = read_loginuid()
    ready()
    equal(read_loginuid(pid), 3, "login uid of the child")
    equal(read_loginuid(), before, "login uid of the root")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
