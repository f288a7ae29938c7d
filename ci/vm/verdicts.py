"""python -m ci.vm.verdicts REPORT...

Prints the paths of the programs that failed, below the checkout, by JUnit's reports of pytest runs of the suite.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree


def read(report: Path) -> dict[str, str]:
    """Program ("zdtm/static/pipe_full.py") -> "passed", "skipped" or "failed", which it did if one of its items did.

    Raises OSError when there is no report, ElementTree.ParseError for half of one.
    """
    verdicts: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        program = _path(case.get("classname", ""))
        if case.find("failure") is not None or case.find("error") is not None:
            verdicts[program] = "failed"
        else:
            verdicts.setdefault(program, "passed" if case.find("skipped") is None else "skipped")
    return verdicts


def _path(classname: str) -> str:
    """pytest writes dots for slashes, and leaves the suffix out if it is ".py"."""
    stem, suffix = (classname[:-2], ".c") if classname.endswith(".c") else (classname, ".py")
    return stem.replace(".", "/") + suffix


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(*(program for program, verdict in read(Path(argument)).items() if verdict == "failed"), sep="\n")
