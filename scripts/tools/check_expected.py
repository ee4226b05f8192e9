#!/usr/bin/env python3
"""Compare measured values with those expected, within their tolerances.

    python scripts/tools/check_expected.py tests/expected/mini.csv results/mini

Columns of the first file: target, method, metric, value, tolerance (per cent, absolute). One line for
each value outside, and status 1. Only targets whose table exists are compared, and no row that the run
left out.
"""

import argparse
import csv
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg.errors import UserError, run
from attnseg.results.notes import parse

COLUMNS = ["target", "method", "metric", "value", "tolerance"]


def read_expected(path: Path) -> list[dict[str, str]]:
    """Read the file of expected values."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if reader.fieldnames != COLUMNS:
        raise UserError(f"{path}: the columns must be {','.join(COLUMNS)}")
    return lines


def left_out(row: dict[str, str]) -> bool:
    """True if the run left a row out, so that its value is not missing."""
    return bool(parse(row["note"] or "").left_out)


def outside(expected: list[dict[str, str]], results: Path) -> tuple[list[str], int]:
    """Messages for values outside their tolerances, and the number of values compared."""
    messages, compared = [], 0
    tables: dict[str, dict[tuple[str, str], str | None]] = {}
    for line in expected:
        target = line["target"]
        if target not in tables:
            path = results / f"{target}.csv"
            tables[target] = {}
            if path.is_file():
                with open(path, newline="", encoding="utf-8") as file:
                    rows = csv.DictReader(file)
                    tables[target] = {
                        (row["method"], row["metric"]): None if left_out(row) else row["ours"]
                        for row in rows
                    }
        table = tables[target]
        measured = table.get((line["method"], line["metric"]), "") if table else None
        if measured is None:
            continue
        compared += 1
        name = f"{target}, {line['method']}, {line['metric']}"
        value, tolerance = float(line["value"]), float(line["tolerance"])
        if not measured:
            messages.append(f"{name}: not measured, expected {value:g}")
        elif abs(float(measured) - value) > tolerance + 1e-9:
            messages.append(f"{name}: {measured}, expected {value:g} within {tolerance:g}")
    return messages, compared


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("expected", type=Path, help="CSV of expected values")
    parser.add_argument("results", type=Path, help="folder of the tables")
    args = parser.parse_args(argv)
    messages, compared = outside(read_expected(args.expected), args.results)
    if not messages and not compared:
        raise UserError(f"{args.results}: no table with a value of {args.expected}; run make mini")
    for message in messages:
        print(f"error: {message}", file=sys.stderr)
    if not messages:
        print(f"{compared} values are as expected in {args.expected}")
    return 1 if messages else 0


if __name__ == "__main__":
    sys.exit(run(main))
