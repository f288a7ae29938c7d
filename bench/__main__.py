"""python -m bench [NAME …]: measures the engine and prints a table.

Ratios are taken within one run: against another engine where one is given by --engine PATH, against cp of the same
bytes where not.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from bench import measure, report
from bench.engine import Engine


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(measure.BENCHMARKS)}; without: all")
    parser.add_argument("--engine", metavar="PATH", help="another engine, such as criu, to be measured in the same run")
    parser.add_argument("--runs", type=int, default=5, help="of each measurement, of which the best counts (5)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--mebibytes", type=int, default=1000, help="size of the large process (1000)")
    parser.add_argument("--divisor", type=int, default=1, help="make the many of the curves fewer, for a quick run")
    args = parser.parse_args()
    unknown = set(args.names) - set(measure.BENCHMARKS)
    if unknown:
        parser.error(f"no such measurement: {', '.join(sorted(unknown))}")
    other = Engine(os.path.basename(args.engine), [args.engine]) if args.engine else None
    bench = measure.Bench(other, args.runs, args.mebibytes, args.divisor)
    load, processors = os.getloadavg()[0], os.cpu_count() or 1
    if load > processors / 2:
        print(f"The machine is busy, times will be too long: load {load:.1f}, {processors} processors", file=sys.stderr)
    rows = (row for name in args.names or measure.BENCHMARKS for row in measure.BENCHMARKS[name](bench))
    if args.json:
        print(json.dumps(report.as_json(rows), indent=1))
    else:
        report.show(rows)


if __name__ == "__main__":
    main()
