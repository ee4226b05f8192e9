"""The ledger of claims as a file and for a terminal. Standard library only."""

import csv
import os
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence

from attnseg.io.files import write_atomically
from attnseg.results.build import read_csv

COLUMNS = (
    *("id", "paper", "where", "claim", "test", "paper_difference"),
    *("ours", "low", "high", "n", "seeds", "verdict", "note"),
)
VERDICTS = ("holds", "does not hold", "undecided", "one run", "not run")
Row = Mapping[str, str]


def write_ledger(path: str | os.PathLike, rows: Sequence[Row]) -> None:
    """Write the ledger as CSV, atomically."""
    with (
        write_atomically(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_ledger(path: str | os.PathLike) -> list[dict[str, str]]:
    """Read the rows of a ledger."""
    return read_csv(path, COLUMNS)


def summary(rows: Sequence[Row]) -> str:
    """Number of claims per verdict, in words."""
    counted = Counter(row["verdict"] for row in rows)
    words = dict(zip(VERDICTS, ("hold", "do not hold", *VERDICTS[2:]), strict=True))
    return f"{len(rows)} claims: " + ", ".join(f"{counted[v]} {words[v]}" for v in VERDICTS)


def interval(row: Row) -> str:
    """Our value with its interval, "" if not run."""
    return f"{row['ours']} [{row['low']}, {row['high']}]" if row["ours"] else ""


def text(path: str | os.PathLike, width: int = 100) -> str:
    """Format the ledger for a terminal: the summary, then a line or two per claim."""
    rows = read_ledger(path)
    lines = [f"Claims of the papers   [{summary(rows)}]", ""]
    values = [
        (row["verdict"], row["paper_difference"] or "-", interval(row) or "-") for row in rows
    ]
    first = [max(map(len, column)) for column in zip(*values, strict=True)]
    heads = ("", "paper's", "ours [95 %]")
    first = [max(w, len(head)) for w, head in zip(first, heads, strict=True)]
    left = sum(first) + 2 * len(first)
    lines.append("  ".join(h.rjust(w) for h, w in zip(heads, first, strict=True)).rstrip())
    for row, value in zip(rows, values, strict=True):
        start = "  ".join(v.rjust(w) for v, w in zip(value, first, strict=True))
        claim = f"{row['claim']} ({row['paper']}, {row['where']})"
        parts = textwrap.wrap(claim, max(30, width - left))
        lines.append(f"{start}  {parts[0]}")
        lines += [" " * left + part for part in parts[1:]]
    return "\n".join(lines) + "\n"
