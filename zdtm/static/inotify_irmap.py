"""inotify watches on a directory and a file of an overlay file system, which does not find files by their handles. The
file was renamed, and another one has its old name.

states: event-fds-and-aio/inotify-on-fs-without-usable-handles-irmap
flavours: h
needs: root
dump-options: --force-irmap --irmap-scan-path ../../work
pre-dump-options: --force-irmap --irmap-scan-path ../../work
modes: not snapshot: the suite copies the directory meanwhile, and that is seen
"""

import os
from pathlib import Path

from zdtm.lib import notify
from zdtm.lib.libc import call
from zdtm.lib.notify import Event
from zdtm.lib.program import equal, ready, run

LAYERS = ("lower", "upper", "spare", "merged")


def main() -> None:
    place = Path.cwd()
    for name in LAYERS:
        os.mkdir(name)
    Path("lower/low").touch()
    layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/spare"
    call("mount", b"overlay", os.fsencode(place / "merged"), b"overlay", 0, layers.encode())
    try:
        os.makedirs("merged/deep/down")
        inotify = notify.init()
        Path("merged/deep/file").touch()
        directory = notify.watch(inotify, "merged/deep/down", notify.IN_CREATE)
        file = notify.watch(inotify, "merged/deep/file", notify.IN_ATTRIB)
        low = notify.watch(inotify, "merged/low", notify.IN_ATTRIB)
        os.rename("merged/deep/file", "merged/deep/renamed")
        Path("merged/deep/file").touch()
        equal(notify.events(inotify), [], "events although nothing has happened")
        ready()
        Path("merged/deep/down/new").touch()
        os.chmod("merged/deep/file", 0o600)
        os.chmod("merged/deep/renamed", 0o600)
        expected = [Event(directory, notify.IN_CREATE, "new"), Event(file, notify.IN_ATTRIB, "")]
        equal(notify.events(inotify), expected, "events")
        notify.unwatch(inotify, low)
        os.close(inotify)
    finally:
        call("umount2", os.fsencode(place / "merged"), 2)


if __name__ == "__main__":
    run(main)
