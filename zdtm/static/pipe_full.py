"""A pipe filled to the last byte; each end has a duplicate and a second description, opened through /proc, that
alone is nonblocking.

states: pipes-and-fifos/full-pipe
flavours: h
kernel: packets and sizes of pipes
"""

import os

from zdtm.lib.pipes import drain, fill, is_full, reopen
from zdtm.lib.proc import same_description
from zdtm.lib.program import check, equal, ready, run


def main() -> None:
    reader, writer = os.pipe()
    reader_dup, writer_dup = os.dup(reader), os.dup(writer)
    reader2, writer2 = reopen(reader, os.O_RDONLY | os.O_NONBLOCK), reopen(writer, os.O_WRONLY | os.O_NONBLOCK)
    contents = fill(writer)
    ready()
    for name, end, duplicate, other in (
        ("reader", reader, reader_dup, reader2),
        ("writer", writer, writer_dup, writer2),
    ):
        check(same_description(end, duplicate), f"the duplicate of the {name} has a description of its own")
        check(not same_description(end, other), f"the second description of the {name} is the first")
        check(os.get_blocking(end), f"the {name} has become nonblocking")
        check(not os.get_blocking(other), f"the second description of the {name} has become blocking")
    check(is_full(writer), "the full pipe has room")
    equal(drain(reader2), contents, "contents of the pipe")

    os.write(writer_dup, b"last")
    for end in (writer, writer_dup, writer2):
        os.close(end)
    equal(os.read(reader, 64), b"last", "what was written after the full pipe was read")
    equal(os.read(reader2, 64), b"", "end of file, now that all writers are closed")


if __name__ == "__main__":
    run(main)
