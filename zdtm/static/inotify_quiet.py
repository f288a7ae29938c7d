"""inotify watches for everything on what a dump and a restore have to do with: the current directory, an open file, a
fifo and a socket in it.

states: event-fds-and-aio/inotify-clean-queue
flavours: h
modes: not lazy-remote: the tree that ends elsewhere closes the files that are watched
modes: not snapshot: the suite copies the directory meanwhile, and that is seen
"""

import os
import socket

from zdtm.lib import notify
from zdtm.lib.program import equal, ready, run


def main() -> None:
    os.mkdir("watched")
    os.chdir("watched")
    file = os.open("file", os.O_RDWR | os.O_CREAT, 0o600)
    os.mkfifo("fifo")
    fifo = os.open("fifo", os.O_RDWR)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("socket")
    inotify = notify.init()
    for name in (".", "file", "fifo"):
        notify.watch(inotify, name, notify.IN_ALL_EVENTS)
    ready()
    equal(notify.events(inotify), [], "events although nothing has happened")
    os.write(file, b"x")
    equal(len(notify.events(inotify)), 2, "events for the file and for its directory")
    os.write(fifo, b"x")
    equal(len(notify.events(inotify)), 1, "events for the fifo")


if __name__ == "__main__":
    run(main)
