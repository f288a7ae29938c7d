"""inotify watches on a directory, and on a file that is unlinked but still open.

states: event-fds-and-aio/inotify-directory-unlinked-file
flavours: h
kernel: file handles
"""

import os

from zdtm.lib import notify
from zdtm.lib.notify import Event
from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    inotify = notify.init(os.O_NONBLOCK)
    os.mkdir("directory")
    unlinked = os.open("unlinked", os.O_RDWR | os.O_CREAT, 0o600)
    first = notify.watch(inotify, "directory", notify.IN_CREATE | notify.IN_DELETE)
    dropped = notify.watch(inotify, ".", notify.IN_OPEN)
    second = notify.watch(inotify, "unlinked", notify.IN_MODIFY)
    check(dropped not in (first, second), "one watch descriptor was given twice")
    os.unlink("unlinked")
    notify.unwatch(inotify, dropped)
    notify.events(inotify)
    ready()
    equal(notify.events(inotify), [], "events although nothing has happened")
    os.mkdir("directory/new")
    os.rmdir("directory/new")
    os.write(unlinked, b"x")
    is_directory = 0x40000000
    expected = [
        Event(first, notify.IN_CREATE | is_directory, "new"),
        Event(first, notify.IN_DELETE | is_directory, "new"),
        Event(second, notify.IN_MODIFY, ""),
    ]
    equal(notify.events(inotify), expected, "events")
    equal(notify.watch(inotify, "directory", notify.IN_CREATE), first, "descriptor of a watch that is there already")
    check(notify.watch(inotify, ".", notify.IN_CREATE) > second, "a new watch got a number that was used before")


if __name__ == "__main__":
    run(main)
