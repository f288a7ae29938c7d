"""Every thread has a personality and a login uid of its own, which it has from the one that has started it.

states: credentials-seccomp-and-lsm/loginuid
flavours: h
needs: root, feature loginuid
"""

import threading

from zdtm.lib.libc import call
from zdtm.lib.program import equal, ready, run, spawn_thread

ADDR_NO_RANDOMIZE, STICKY_TIMEOUTS = 0x0040000, 0x4000000
"""personality(2)"""
LOGIN_UID = 4


def mine(name: str) -> str:
    with open(f"/proc/thread-self/{name}") as file:
        return file.read().strip()


def look() -> tuple[str, str]:
    return mine("personality"), mine("loginuid")


def main() -> None:
    with open("/proc/self/loginuid", "w") as file:
        file.write(str(LOGIN_UID))
    call("personality", ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS)
    asleep, go = threading.Event(), threading.Event()
    found: list[tuple[str, str]] = []

    def body() -> None:
        asleep.set()
        go.wait()
        found.append(look())

    thread = spawn_thread(body)
    asleep.wait()
    ready()
    go.set()
    thread.join()
    expected = f"{ADDR_NO_RANDOMIZE | STICKY_TIMEOUTS:08x}", str(LOGIN_UID)
    equal([look(), *found], [expected] * 2, "what the threads have")


if __name__ == "__main__":
    run(main)
