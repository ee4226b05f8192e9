"""Print tables in the terminal: python -m attnseg.tables results/mini/voc_table1.csv ..."""

import argparse
import sys

from attnseg.errors import run
from attnseg.tables import render


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m attnseg.tables", description=__doc__)
    parser.add_argument("tables", nargs="+", metavar="CSV", help="results/<target>.csv")
    parser.add_argument("--width", type=int, help="characters a line (default: the terminal's)")
    args = parser.parse_args(argv)
    print("\n".join(render.text(path, args.width) for path in args.tables), end="")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
