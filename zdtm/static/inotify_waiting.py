"""inotify events wait to be read. The kernel has no way to put them back, so a dump must not lose them.

states: event-fds-and-aio/inotify-pending-events
flavours: h
expect: refuse (?i)inotify events wait
"""

import os

from zdtm.lib import notify
from zdtm.lib.program import equal, ready, run


def main() -> None:
    inotify = notify.init()
    os.mkdir("directory")
    notify.watch(inotify, "directory", notify.IN_ALL_EVENTS)
    os.symlink("nowhere", "directory/link")
    os.chmod("directory", 0o700)
    os.rename("directory/link", "directory/moved")
    os.unlink("directory/moved")
    ready()
    equal(
        [event.name for event in notify.events(inotify)], ["link", "", "link", "moved", "moved"], "names in the events"
    )


if __name__ == "__main__":
    run(main)
