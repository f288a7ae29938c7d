"""The file of a listening unix socket has another name than the socket was bound to, as when a server replaces its
predecessor's by a rename; and the directory of another one is reached through a symlink that leads elsewhere now.

states: unix-sockets/renamed-over-names
flavours: h
"""

import os

from zdtm.lib.program import equal, ready, run
from zdtm.lib.unix import listener, talk


def main() -> None:
    new = listener("server.new")
    os.rename("server.new", "server")
    for name in ("one", "other"):
        os.mkdir(name)
    os.symlink("one", "link")
    linked = listener("link/name")
    os.unlink("link")
    os.symlink("other", "link")
    before = sorted(os.listdir(".")), os.listdir("one"), os.listdir("other")
    ready()
    equal((sorted(os.listdir(".")), os.listdir("one"), os.listdir("other")), before, "names in the directories")
    equal([sock.getsockname() for sock in (new, linked)], ["server.new", "link/name"], "addresses")
    talk(new, "server")
    talk(linked, "one/name")


if __name__ == "__main__":
    run(main)
