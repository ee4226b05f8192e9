#!/usr/bin/env python3
"""What targets cost before anything runs: jobs, GPU hours, CPU hours, downloads and disk.

    python scripts/tools/estimate_cost.py                       what `snakemake` alone makes
    python scripts/tools/estimate_cost.py all_tables            everything that the configuration can make
    python scripts/tools/estimate_cost.py voc_table3 voc_table5
    python scripts/tools/estimate_cost.py all --configfile config/mini.yaml

A row a target; targets share jobs, which the last row counts once. Jobs are those that Snakemake plans;
their sizes follow from the settings; what a unit of work costs, on an A100 and on one core, is in
config/costs.yaml with its source, mostly an estimate. Where jobs have run here, their records
(work/benchmarks) correct it, and it is said which. CPU hours are of one core, and without what goes on
beside a GPU. Nothing is run or fetched.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg.app.config import resolved
from attnseg.errors import run
from attnseg.results.costs import CLONE, estimate, table


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "target", nargs="*", help="a table, figure or picture, a rule that makes several, or a file"
    )
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="configuration files over config/config.yaml, later ones over earlier ones",
    )
    parser.add_argument("--csv", action="store_true", help="print the table as CSV")
    args = parser.parse_args(argv)
    config = resolved(CLONE, args.configfile)
    found = estimate(args.target, config, args.configfile, CLONE)
    rows = table(found)
    if args.csv:
        csv.writer(sys.stdout).writerows(rows)
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        numbers = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print(name.ljust(widths[0]), *numbers, sep="  ")
    for (rule, *units), (count, factor) in found.measured.items():
        print(
            f"measured here: {count} of {rule} ({units[-1]}) took {factor:.2g} times the unit costs"
        )
    if not found.measured:
        print("nothing has run here yet: all unit costs are those of config/costs.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
