"""Unix sockets have a context of SELinux, their process's or the one it wanted for new ones, and peers see it.

What threads want for sockets, files and keys to come, and for after execve, is still wanted.

states: credentials-seccomp-and-lsm/selinux-socket-context
flavours: h
kernel: security modules
needs: root, file /sys/fs/selinux/booleans/zdtm
"""

import os
import socket
import threading

from zdtm.lib.program import equal, ready, run, spawn_thread, workdir
from zdtm.lib.selinux import FIRST, SECOND, THING, attribute, set_attribute

SO_PEERSEC = 31
OTHER = SECOND.replace("c1", "c0")
FUTURE = {"sockcreate": SECOND, "exec": OTHER, "fscreate": THING, "keycreate": THING}


def contexts(*sockets: socket.socket) -> list[str]:
    return [os.getxattr(sock.fileno(), "security.selinux").decode().rstrip("\0") for sock in sockets]


def peers(*sockets: socket.socket) -> list[str]:
    return [sock.getsockopt(socket.SOL_SOCKET, SO_PEERSEC, 200).decode().rstrip("\0") for sock in sockets]


def wanted() -> dict[str, str]:
    return {name: attribute(name) for name in FUTURE}


def all_kinds() -> list[socket.socket]:
    """A pair, a listener with a connection of another context to it, a socket alone, and one that is in flight."""
    sockets = [*socket.socketpair(), *socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)]
    listener, client = (socket.socket(socket.AF_UNIX) for _ in range(2))
    listener.bind(os.path.join(workdir(), f"listener of {attribute('sockcreate') or 'the process'}"))
    listener.listen()
    set_attribute("sockcreate", OTHER)
    other = socket.socket(socket.AF_UNIX)
    for connecting in (client, other):
        connecting.connect(listener.getsockname())
    return [*sockets, listener, client, listener.accept()[0], other, listener.accept()[0]]


def main() -> None:
    set_attribute("current", FIRST)
    sockets = all_kinds()
    set_attribute("sockcreate", SECOND)
    sockets += all_kinds()
    sender, receiver = socket.socketpair()
    set_attribute("sockcreate", SECOND)
    with socket.socket(socket.AF_UNIX) as flying:
        socket.send_fds(sender, [b"flying"], [flying.fileno()])
    equal(contexts(*sockets[:4], *sockets[9:13]), [FIRST] * 4 + [SECOND] * 4, "contexts of pairs")
    before = contexts(*sockets), peers(*(sock for sock in sockets if sock.type == socket.SOCK_STREAM))
    asleep, go = threading.Event(), threading.Event()
    found: list[dict[str, str]] = []

    def body() -> None:
        set_attribute("sockcreate", OTHER)
        asleep.set()
        go.wait()
        found.append(wanted())

    thread = spawn_thread(body)
    asleep.wait()
    for name, context in FUTURE.items():
        set_attribute(name, context)
    ready()
    go.set()
    thread.join()
    after = contexts(*sockets), peers(*(sock for sock in sockets if sock.type == socket.SOCK_STREAM))
    equal(after, before, "contexts of sockets and of their peers")
    _, numbers, _, _ = socket.recv_fds(receiver, 6, 1)
    with socket.socket(fileno=numbers[0]) as flying:
        equal(contexts(flying), [SECOND], "the context of a socket in flight")
    usual = dict.fromkeys(FUTURE, "") | {"sockcreate": OTHER}
    equal([wanted(), *found], [FUTURE, usual], "contexts to come, of the main thread and another one")


if __name__ == "__main__":
    run(main)
