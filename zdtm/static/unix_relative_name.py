"""Unix sockets bound to relative names: one in the current directory, one in a directory that the task has left.

states: unix-sockets/relative-address
flavours: h
"""

import os

from zdtm.lib.program import check, equal, ready, run
from zdtm.lib.unix import listener, talk


def main() -> None:
    os.mkdir("left")
    os.chdir("left")
    left_behind = listener("name")
    os.chdir("..")
    here = listener("name")
    below = listener("left/below")
    before = sorted(os.listdir(".")), sorted(os.listdir("left"))
    ready()
    equal((sorted(os.listdir(".")), sorted(os.listdir("left"))), before, "names in the two directories")
    equal([sock.getsockname() for sock in (left_behind, here, below)], ["name", "name", "left/below"], "addresses")
    talk(here, "name")
    talk(below, "left/below")
    talk(left_behind, "left/name")
    os.chdir("left")
    talk(left_behind, "name")
    talk(here, "../name")
    check(os.getcwd().endswith("/left"), "the working directory is another one")


if __name__ == "__main__":
    run(main)
