"""Two descriptions of one slave, both in use; the slave's owner and mode have been changed.

states: tty-and-pty/two-slaves-of-one-master
flavours: h
needs: root
"""

import os
import stat

from zdtm.lib.proc import same_description
from zdtm.lib.program import check, equal, ready, run
from zdtm.lib.terminal import new_master, open_slave, read_within, set_raw


def main() -> None:
    master, path = new_master()
    first, second = open_slave(path), open_slave(path)
    set_raw(first)
    os.set_blocking(second, False)
    os.fchown(first, 13, 29)
    os.fchmod(first, 0o641)
    ready()
    for slave in (first, second):
        info = os.fstat(slave)
        found = info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)
        equal(found, (13, 29, 0o641), "owner, group and mode of the slave")
    check(not same_description(first, second), "the two descriptions are one")
    equal([os.get_blocking(fd) for fd in (first, second)], [True, False], "which of them block")
    for number, slave in enumerate((first, second, first)):
        text = b"turn %d" % number
        os.write(slave, text)
        equal(read_within(master, len(text)), text, "what a slave wrote")
        os.write(master, text)
        equal(read_within(slave, len(text)), text, "what a slave reads")


if __name__ == "__main__":
    run(main)
