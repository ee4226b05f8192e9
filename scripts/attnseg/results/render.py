"""Lay out a tidy CSV as in the paper, with our value beside the published one. Standard library only."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from statistics import fmean

from attnseg.results import FIGURES, TABLES
from attnseg.results.build import Line, read_rows
from attnseg.results.description import (
    READINGS,
    Row,
    Table,
    as_printed,
    plain,
    reading,
    rows_by_method,
    with_cells,
)

GAP = "-"  # no such value in the paper
NOT_RUN = "–"


def _layout(rows: list[Line], target: str) -> Table:
    """The paper's layout of a known target; otherwise one row per method and one column per metric.

    A figure of curves has one row per point.
    """
    if target in TABLES:
        return with_cells(TABLES[target], [(row["method"], row["metric"]) for row in rows])
    if target in FIGURES and target != "backbones":
        cells = [(row["method"], row["metric"]) for row in rows]
        points = tuple(Row(cell, (cell,)) for cell in cells)
        return Table(target, *FIGURES[target], ("Curve", "At"), plain(["value"]), points)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    name = FIGURES.get(target, (target, ""))
    return Table(target, *name, ("Method",), plain(metrics), rows_by_method(methods, metrics))


def load(path: str | os.PathLike) -> tuple[Table, dict[tuple[str, str], Line]]:
    """Read a CSV: its layout, and its lines by (method, metric)."""
    rows = read_rows(path)
    return _layout(rows, Path(path).stem), {(row["method"], row["metric"]): row for row in rows}


def pair(row: Line | None) -> tuple[str, str | None]:
    """Return (published value, our value); ours is None for a method that we do not run."""
    if row is None:
        return GAP, None
    ours = None if row["status"] == "published" else row["ours"] or NOT_RUN
    return row["paper"] or GAP, ours


def _cell_text(row: Line | None) -> str:
    paper, ours = pair(row)
    return paper if ours is None else f"{paper} | {ours}"


def heading(table: Table) -> str:
    """The table's number in the paper, and its title."""
    return f"{table.number}. {table.title}" if table.title else table.number


def datasets(rows: Iterable[Line]) -> list[str]:
    """The data sets of the measured rows, without repeats."""
    return list(dict.fromkeys(str(row["dataset"]) for row in rows if row["status"] == "measured"))


def notes_under(rows: Sequence[Line]) -> list[str]:
    """Notes below a table: data and model of our values, and why other values are missing."""
    measured = dict.fromkeys(
        (
            row["dataset"],
            row["split"],
            row["n_images"],
            row["model"],
            row["note"].precision,
            row["model"] == row["method"],
            row["seed"],
        )
        for row in rows
        if row["status"] == "measured"
    )
    notes = []
    for key, group in groupby(sorted(measured, key=lambda k: k[:6]), key=lambda k: k[:6]):
        dataset, split, images, model, precision, given = key
        seeds = ", ".join(dict.fromkeys(s for k in group for s in k[6].split()))
        parts = [
            f"{dataset} {split}".strip(),
            f"{images} images",
            "masks as given" if given else model,
            precision,
            f"seed {seeds}" if seeds else "",
        ]
        notes.append(f"{model if given else 'Ours'}: " + ", ".join(filter(None, parts)))
    said = [row["note"] for row in rows if row["status"] == "measured"]
    spreads = dict.fromkeys(note.spread for note in said if note.spread)
    remarks = dict.fromkeys(remark for note in said for remark in note.remark)
    notes += [f"Average: ours {spread}" for spread in spreads]
    notes += [f"{remark[0].upper()}{remark[1:]}" for remark in remarks]
    notes += [
        f"{row['method']}, {row['metric']}: {comparison}: the paper's order does not hold here"
        for row in rows
        for comparison in row["note"].does_not_hold
    ]
    reasons: dict[str, dict[str, list[str]]] = {}  # reason -> method -> metrics
    for row in rows:
        if row["status"] == "not run":
            methods = reasons.setdefault(row["note"].reason, {})
            methods.setdefault(row["method"], []).append(row["metric"])
    ours = Counter(row["method"] for row in rows if row["status"] != "published")
    for reason, methods in reasons.items():
        names = [
            method if len(metrics) == ours[method] else f"{method}: {', '.join(metrics)}"
            for method, metrics in methods.items()
        ]
        notes.append(f"Not run ({'; '.join(names)}): {reason}")
    return notes + _readings(rows)


def _readings(rows: Sequence[Line]) -> list[str]:
    """What brackets after labels mean, and how far ours differs from the values without them."""
    ours = {(row["method"], row["metric"]): row["ours"] for row in rows}
    gaps: dict[str, list[float]] = {}
    for row in rows:
        cell = (row["method"], row["metric"])
        if name := reading(cell[0]):
            gaps.setdefault(name, [])
            if row["paper"] and ours[cell] and ours.get(as_printed(cell)):
                gaps[name].append(float(ours[cell]) - float(ours[as_printed(cell)]))
    notes = []
    for name, found in gaps.items():
        note = f"[{name}]: {READINGS[name]}; which of the two the paper printed is not known"
        if found:
            note += (
                f"; ours differs by {min(found):+.1f} to {max(found):+.1f} from the value without it, "
                f"{fmean(found):+.1f} on average"
            )
        notes.append(note)
    return notes


def text(path: str | os.PathLike, width: int | None = None) -> str:
    """Format a table for a terminal, with "paper | ours" in the cells that we measure.

    Columns that do not fit continue below. "-": the paper has no value; "–": we did not run it.
    """
    table, cells = load(path)
    width = width or shutil.get_terminal_size((100, 24)).columns
    body = [
        [_cell_text(cells.get(cell) if cell else None) for cell in row.cells] for row in table.rows
    ]
    head_widths = [
        max(len(label) for label in (head, *(row.heads[i] for row in table.rows)))
        for i, head in enumerate(table.heads)
    ]
    widths = [
        max(len(label), *(len(line[i]) for line in body))
        for i, (_, label) in enumerate(table.columns)
    ]
    left = sum(head_widths) + 2 * len(head_widths)
    blocks: list[list[int]] = [[]]
    used = left
    for _, members in groupby(range(len(widths)), key=lambda i: table.columns[i][0] or i):
        group = list(members)
        room = sum(widths[i] + 2 for i in group) - 2
        if blocks[-1] and used + room > width >= left + room:
            blocks.append([])  # keep a group together if it fits on one line
            used = left
        for i in group:
            if blocks[-1] and used + widths[i] > width:
                blocks.append([])
                used = left
            blocks[-1].append(i)
            used += widths[i] + 2

    lines = [f"{heading(table)}   [paper | ours]", ""]
    for block in blocks:
        lines += _block(table, body, block, head_widths, widths, left) + [""]
    lines += notes_under(list(cells.values()))
    return "\n".join(lines).rstrip() + "\n"


def _block(
    table: Table,
    body: list[list[str]],
    block: list[int],
    head_widths: list[int],
    widths: list[int],
    left: int,
) -> list[str]:
    """Format the columns in `block`, below their groups and beside the rows' heads."""

    def line(heads: Sequence[str], values: Sequence[str]) -> str:
        parts = [head.ljust(w) for head, w in zip(heads, head_widths, strict=True)]
        parts += [value.rjust(widths[i]) for i, value in zip(block, values, strict=True)]
        return "  ".join(parts).rstrip()

    lines = []
    if any(group for group, _ in table.columns):
        # widen the first column of a group whose label is wider than its columns
        for group, of_group in groupby(block, key=lambda i: table.columns[i][0]):
            members = list(of_group)
            room = sum(widths[i] for i in members) + 2 * (len(members) - 1)
            widths[members[0]] += max(0, len(group) - room)
        parts = []
        for group, of_group in groupby(block, key=lambda i: table.columns[i][0]):
            members = list(of_group)
            parts.append(group.center(sum(widths[i] for i in members) + 2 * (len(members) - 1)))
        lines.append((" " * left + "  ".join(parts)).rstrip())
    lines.append(line(table.heads, [table.columns[i][1] for i in block]))
    lines.append("─" * max(len(lines[-1]), left))
    section = ""
    for row, values in zip(table.rows, body, strict=True):
        if row.section != section:
            section = row.section
            lines.append(section)
        lines.append(line(row.heads, [values[i] for i in block]))
    return lines
