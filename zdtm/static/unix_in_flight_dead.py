"""Unix connections that nobody has accepted yet, and whose clients are closed: one without a word, one after a word.

states: unix-sockets/in-flight-connection-with-data-or-dead-client
flavours: h
expect: refuse (?i)in.?flight|not (yet )?accepted
"""

import socket

from zdtm.lib.program import equal, ready, run


def main() -> None:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("listener")
    listener.listen(2)
    for words in (b"", b"farewell"):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.connect("listener")
        client.send(words)
        client.close()
    ready()
    for words in (b"", b"farewell"):
        accepted, _ = listener.accept()
        with accepted.makefile("rb") as stream:
            equal(stream.read(), words, "what the closed client has sent")


if __name__ == "__main__":
    run(main)
