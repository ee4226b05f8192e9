"""Print tables in the terminal: python -m attnseg.results results/mini/voc_table1.csv ..."""

import argparse
import shutil
import sys
from pathlib import Path

from attnseg.errors import run
from attnseg.results import ledger, render


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m attnseg.results", description=__doc__)
    parser.add_argument("tables", nargs="+", metavar="CSV", help="results/<target>.csv")
    parser.add_argument("--width", type=int, help="characters per line (default: the terminal's)")
    args = parser.parse_args(argv)
    print("\n".join(printed(path, args.width) for path in args.tables), end="")
    return 0


def printed(path: str, width: int | None) -> str:
    """Format a table, or the ledger of claims, as text."""
    if Path(path).stem == "claims":
        return ledger.text(path, width or shutil.get_terminal_size((100, 24)).columns)
    return render.text(path, width)


if __name__ == "__main__":
    sys.exit(run(main))
