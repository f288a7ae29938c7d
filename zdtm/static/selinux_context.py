"""A process has gone into another domain of SELinux and stays there, its threads and children with it; no context is
wanted for what it creates.

states: credentials-seccomp-and-lsm/selinux-process-context
flavours: h
kernel: security modules
needs: root, file /sys/fs/selinux/booleans/zdtm
"""

import threading

from zdtm.lib.program import child, equal, finish, ready, run, spawn_thread, wait_term
from zdtm.lib.selinux import FIRST, SECOND, attribute, set_attribute

FUTURE = ("sockcreate", "exec", "fscreate", "keycreate")


def check_contexts(expected: str) -> None:
    equal(attribute("current"), expected, "the context")
    equal([attribute(name) for name in FUTURE], [""] * len(FUTURE), "contexts of what is to be created")


def body_of_child() -> None:
    set_attribute("current", SECOND)
    wait_term()
    check_contexts(SECOND)


def main() -> None:
    set_attribute("current", FIRST)
    pid = child(body_of_child, block_term=True)
    asleep, go = threading.Event(), threading.Event()

    def body() -> None:
        asleep.set()
        go.wait()
        check_contexts(FIRST)

    thread = spawn_thread(body)
    asleep.wait()
    ready()
    check_contexts(FIRST)
    go.set()
    thread.join()
    finish(pid)


if __name__ == "__main__":
    run(main)
