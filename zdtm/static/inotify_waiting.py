"""inotify events wait to be read: of a directory, of two between which a file was moved, of files that are still there
or gone, of a watch that is gone with its file.

states: event-fds-and-aio/inotify-pending-events
flavours: h
kernel: how events are queued, and kept in the kernel's memory
needs: file /sys/kernel/btf/vmlinux
"""

import os
from pathlib import Path

from zdtm.lib import notify
from zdtm.lib.notify import Event
from zdtm.lib.program import check, equal, ready, run

IS_DIRECTORY, IGNORED, MOVE_SELF = 0x40000000, 0x8000, 0x800
CHANGES = (
    notify.IN_ATTRIB | notify.IN_CREATE | notify.IN_DELETE | notify.IN_MOVED_FROM | notify.IN_MOVED_TO | MOVE_SELF
) | notify.IN_DELETE_SELF
"""Without what a look at the files causes."""


def main() -> None:
    inotify = notify.init()
    for name in ("directory", "other", "directory/lives"):
        os.mkdir(name)
    Path("file").touch()
    first, other = (notify.watch(inotify, name, CHANGES) for name in ("directory", "other"))
    file = notify.watch(inotify, "file", CHANGES | notify.IN_MODIFY)
    os.symlink("nowhere", "directory/link")
    os.chmod("directory", 0o700)
    os.rename("directory/link", "directory/moved")
    os.unlink("directory/moved")
    Path("directory/stays").touch()
    os.mkdir("directory/sub directory \n'é")
    os.rename("directory/stays", "other/here")
    os.rename("other/here", "outside")
    os.rename("outside", "directory/" + "n" * 255)
    os.chmod("directory/lives", 0o711)
    os.rmdir("directory/lives")
    os.rename("other", "renamed")
    Path("file").write_text("x")
    os.unlink("file")
    expected = [
        Event(first, notify.IN_CREATE, "link"),
        Event(first, notify.IN_ATTRIB | IS_DIRECTORY, ""),
        Event(first, notify.IN_MOVED_FROM, "link"),
        Event(first, notify.IN_MOVED_TO, "moved"),
        Event(first, notify.IN_DELETE, "moved"),
        Event(first, notify.IN_CREATE, "stays"),
        Event(first, notify.IN_CREATE | IS_DIRECTORY, "sub directory \n'é"),
        Event(first, notify.IN_MOVED_FROM, "stays"),
        Event(other, notify.IN_MOVED_TO, "here"),
        Event(other, notify.IN_MOVED_FROM, "here"),
        Event(first, notify.IN_MOVED_TO, "n" * 255),
        Event(first, notify.IN_ATTRIB | IS_DIRECTORY, "lives"),
        Event(first, notify.IN_DELETE | IS_DIRECTORY, "lives"),
        Event(other, MOVE_SELF, ""),
        Event(file, notify.IN_MODIFY, ""),
        Event(file, notify.IN_ATTRIB, ""),
        Event(file, notify.IN_DELETE_SELF, ""),
        Event(file, IGNORED, ""),
    ]
    ready()
    events = notify.with_cookies(inotify)
    equal([event for event, _ in events], expected, "events that waited")
    pairs = [cookie for event, cookie in events if event.mask & (notify.IN_MOVED_FROM | notify.IN_MOVED_TO)]
    check(pairs[0] == pairs[1] and pairs[2] == pairs[3], "the halves of a rename have two cookies")
    equal(len(set(pairs)), 4, "number of renames")
    Path("renamed/new").touch()
    equal(notify.events(inotify)[0], Event(other, notify.IN_CREATE, "new"), "event after the checkpoint")


if __name__ == "__main__":
    run(main)
