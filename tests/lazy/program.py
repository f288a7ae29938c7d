"""The program that is restored lazily. It fills an area of memory, waits, and does what the test wants of it.

    program.py MEBIBYTES ACT        ACT: a function of acts.py, which raises what it finds wrong

Page n of the area starts with the number n + 1. SIGUSR1 starts the act; the file `result` says how it ended.
"""

import os
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import acts


def main() -> None:
    mebibytes, act = int(sys.argv[1]), getattr(acts, sys.argv[2])
    acts.fill(mebibytes)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    os.mkdir("ready")
    signal.sigwait({signal.SIGUSR1})
    try:
        act()
        result = "right"
    except BaseException as wrong:
        result = repr(wrong)
    with open("result.new", "w") as file:
        file.write(result)
    os.rename("result.new", "result")
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
