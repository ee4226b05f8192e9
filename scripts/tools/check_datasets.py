#!/usr/bin/env python3
"""List which data sets are complete, and the targets blocked by missing ones.

    python scripts/tools/check_datasets.py
    python scripts/tools/check_datasets.py --configfile config/mini.yaml

Reads the splits and folders of the configuration, and config/datasets.yaml for where data comes from.
Exits with 1 where no split is complete, with --strict where something configured is missing.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg.app.config import resolved
from attnseg.app.survey import survey
from attnseg.datasets import completeness
from attnseg.errors import run

REPOSITORY = Path(__file__).resolve().parents[2]
HEAD = ("data set", "split", "list", "photos", "masks", "state", "blocks")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--configfile",
        type=Path,
        nargs="+",
        default=[],
        help="configuration files over config/config.yaml, later ones over earlier ones",
    )
    parser.add_argument("--registry", type=Path, default=completeness.REGISTRY)
    parser.add_argument(
        "--strict", action="store_true", help="exit with 1 where something configured is missing"
    )
    args = parser.parse_args(argv)
    config = resolved(REPOSITORY, args.configfile)
    rows, advice = survey(config, completeness.read_registry(args.registry))
    print(table([HEAD, *rows]))
    for line in advice:
        print(line)
    complete = [row[5] == "complete" for row in rows if row[5] != "not configured"]
    return int(not (all if args.strict else any)(complete))


def table(rows: list[tuple[str, ...]]) -> str:
    """Format rows as text, with aligned columns and numbers to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= i <= 4 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
