"""A datagram socket was bound to a name, the name was unlinked, and a fifo took it: once by an absolute address,
once by a relative one in a directory that is no longer the current one.

states: pipes-and-fifos/fifo-created-on-a-deleted-socket-name
flavours: h
"""

import os
import socket
import stat

from zdtm.lib.program import check, equal, ready, run, workdir


def fifo_over_socket(address: str) -> tuple[socket.socket, int]:
    """Gives the socket, which has lost its name, and a descriptor of the fifo which has it now."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(address)
    os.unlink(address)
    os.mkfifo(address)
    return sock, os.open(address, os.O_RDWR)


def main() -> None:
    absolute = os.path.join(workdir(), "absolute")
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    objects = {absolute: fifo_over_socket(absolute), "relative": fifo_over_socket("relative")}
    os.chdir("..")
    paths = {absolute: absolute, "relative": "elsewhere/relative"}
    receivers = {name: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for name in objects}
    for receiver in receivers.values():
        receiver.bind("")  # gives it an abstract name
    ready()
    for name, (sock, fifo) in objects.items():
        equal(sock.getsockname(), name, "address of the socket")
        check(stat.S_ISFIFO(os.lstat(paths[name]).st_mode), f"the name {name} is no fifo")
        check(os.path.samestat(os.stat(paths[name]), os.fstat(fifo)), f"the name {name} is another fifo")
        os.write(fifo, b"fifo")
        equal(os.read(fifo, 64), b"fifo", f"data through the fifo {name}")
        sock.sendto(b"socket", receivers[name].getsockname())
        equal(receivers[name].recvfrom(64), (b"socket", name), "datagram and its sender")


if __name__ == "__main__":
    run(main)
