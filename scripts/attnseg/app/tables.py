"""Print tables, and the ledger of claims.

attnseg tables results/mini/voc_table1.csv results/mini/claims.csv
"""

import argparse

from attnseg.app.options import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tables", nargs="+", metavar="CSV", help="results/<target>.csv")
    parser.add_argument("--width", type=count, help="characters a line (default: the terminal's)")


def main(args: argparse.Namespace) -> int:
    from attnseg.results.__main__ import printed

    print("\n".join(printed(path, args.width) for path in args.tables), end="")
    return 0
