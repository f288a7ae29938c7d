"""`zdtm`: the suite as a command. `zdtm coverage` says what has a program; all else is pytest's, over the programs.

zdtm -n 2 -k pipe --modes cli
zdtm --shard 1/4 --junitxml=1.xml
zdtm coverage --list missing
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> int:
    if sys.argv[1:2] == ["coverage"]:
        from zdtm import coverage

        return coverage.main(sys.argv[2:])
    import pytest

    return int(pytest.main([str(Path(__file__).resolve().parent), *sys.argv[1:]]))


if __name__ == "__main__":
    sys.exit(main())
