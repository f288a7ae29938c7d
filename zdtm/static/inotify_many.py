"""64 inotify watches on directories, of which every fourth is renamed after it was added.

states: event-fds-and-aio/inotify-many-handles
flavours: h
"""

import os

from zdtm.lib import notify
from zdtm.lib.notify import Event
from zdtm.lib.program import equal, ready, run

COUNT = 64
IS_DIRECTORY = 0x40000000


def main() -> None:
    inotify = notify.init()
    names: dict[int, str] = {}
    for number in range(COUNT):
        name = f"directory {number}"
        os.mkdir(name)
        wd = notify.watch(inotify, name, notify.IN_CREATE)
        if number % 4 == 0:
            os.rename(name, f"renamed {number}")
            name = f"renamed {number}"
        names[wd] = name
    equal(len(names), COUNT, "number of watch descriptors")
    ready()
    for wd, name in names.items():
        os.mkdir(f"{name}/new")
        equal(notify.events(inotify), [Event(wd, notify.IN_CREATE | IS_DIRECTORY, "new")], f"event in {name}")


if __name__ == "__main__":
    run(main)
