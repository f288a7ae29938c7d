"""python -m bench [NAME …]: measures the engine and prints a table.

Ratios are taken within one run: against another engine where one is given by --engine PATH, against cp of the same
bytes where not. Every figure is the best of several runs, since what disturbs a run only makes it slower.
"""

from __future__ import annotations

import argparse

from bench import measure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(measure.BENCHMARKS)}; all")
    parser.add_argument("--engine", help="another engine, such as criu, to be measured in the same run")
    parser.add_argument("--runs", type=int, default=5, help="runs of each measurement, of which the best counts")
    args = parser.parse_args()
    bench = measure.Bench(args.engine, args.runs)
    for name in args.names or measure.BENCHMARKS:
        for line in measure.BENCHMARKS[name](bench):
            print(line, flush=True)


if __name__ == "__main__":
    main()
