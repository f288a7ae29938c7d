"""Tasks that offer themselves to the out-of-memory killer: parent and child to different degrees.

states: misc/oom-score-adj
flavours: h
"""

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run

FILE = "/proc/self/oom_score_adj"


def offer(score: int) -> None:
    with open(FILE, "w") as file:
        file.write(str(score))


def offered() -> int:
    with open(FILE) as file:
        return int(file.read())


def main() -> None:
    gate = Gate()

    def body() -> None:
        offer(999)
        gate.wait()
        equal(offered(), 999, "score of the child")

    offer(400)
    pid = child(body)
    gate.expect(1)
    ready()
    equal(offered(), 400, "score")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
