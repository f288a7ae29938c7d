"""Four processes send datagrams to the path that a server is bound to, as fast as it takes them, and now and then it
answers to the path that the sender is bound to.

states: unix-sockets/busy-unix-sockets
flavours: h
"""

import socket

from zdtm.lib.program import child, equal, go_on, reap, run, running

CLIENTS = 4
ANSWERED = 16
"""One datagram in so many is answered, and the client waits for that: it is never further ahead."""
GO_ON, STOP = b"go on after ", b"stop after "


def body(number: int, client: int) -> bytes:
    """The text of a datagram. Their sizes differ, so that boundaries matter."""
    return b"%d from client %d " % (number, client) + bytes([number % 256]) * (number * 37 % 3000)


def send(client: int) -> None:
    """Until an answer says stop."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(f"client {client}")
    number = 0
    answer = b""
    while not answer.startswith(STOP):
        sock.sendto(body(number, client), "server")
        if number % ANSWERED == 0:
            answer, name = sock.recvfrom(64)
            equal(name, "server", "address of the answer")
            equal(answer in (GO_ON + b"%d" % number, STOP + b"%d" % number), True, "the answer is to the last datagram")
        number += 1


def main() -> None:
    server = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    server.bind("server")
    pids = [child(lambda client=client: send(client)) for client in range(CLIENTS)]  # type: ignore[misc]
    numbers = {f"client {client}": 0 for client in range(CLIENTS)}
    running()
    while numbers:
        data, name = server.recvfrom(8192)
        number = numbers[name]
        equal(data, body(number, int(name.split()[1])), f"datagram {number} of {name}")
        numbers[name] += 1
        if number % ANSWERED == 0:
            stop = not go_on()
            server.sendto((STOP if stop else GO_ON) + b"%d" % number, name)
            if stop:
                del numbers[name]
    equal([reap(pid) for pid in pids], [0] * CLIENTS, "statuses of the clients")


if __name__ == "__main__":
    run(main)
