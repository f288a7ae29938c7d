"""Two unix listeners believe that they have the same name: the first one's file was moved away, and moved back over
the second one's.

states: unix-sockets/renamed-over-names
flavours: h
"""

import os
import socket

from zdtm.lib.program import check, equal, ready, run


def listener() -> socket.socket:
    new = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    new.bind("name")
    new.listen(4)
    new.setblocking(False)
    return new


def has_connection(server: socket.socket) -> bool:
    try:
        server.accept()
    except BlockingIOError:
        return False
    return True


def main() -> None:
    survivor = listener()
    os.rename("name", "aside")
    overwritten = listener()
    os.rename("aside", "name")
    ready()
    equal(os.listdir("."), ["name"], "names in the directory")
    equal([server.getsockname() for server in (survivor, overwritten)], ["name", "name"], "names of the listeners")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect("name")
    check(not has_connection(overwritten), "the name leads to the listener whose file is gone")
    check(has_connection(survivor), "the name does not lead to the listener that has it")


if __name__ == "__main__":
    run(main)
