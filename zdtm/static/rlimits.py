"""All resource limits: unusual soft limits in the parent, lowered hard limits in the child.

states: misc/rlimits
flavours: h
kernel: hard limits, and who may raise them
"""

from resource import RLIM_INFINITY, getrlimit, setrlimit

from zdtm.lib.gate import Gate
from zdtm.lib.program import child, equal, ready, reap, run

COUNT = 16
"""RLIM_NLIMITS; their numbers are 0 to 15"""
ENOUGH = 1 << 40
"""A limit that nothing here reaches"""


def lowered(limit: int, number: int) -> int:
    """One less; for no limit at all a large number, another one for each."""
    if limit == RLIM_INFINITY:
        return ENOUGH + number
    return max(limit - 1, 0)


def limits() -> list[tuple[int, int]]:
    return [getrlimit(number) for number in range(COUNT)]


def main() -> None:
    for number in range(COUNT):
        soft, hard = getrlimit(number)
        setrlimit(number, (lowered(soft, number), hard))
    before = limits()
    gate = Gate()

    def body() -> None:
        for number, (soft, _) in enumerate(before):
            setrlimit(number, (max(soft - 1, 0), soft))
        expected = limits()
        gate.wait()
        equal(limits(), expected, "limits of the child")

    pid = child(body)
    gate.expect(1)
    ready()
    equal(limits(), before, "limits")
    gate.open()
    equal(reap(pid), 0, "status of the child")


if __name__ == "__main__":
    run(main)
