"""A tidy CSV laid out as in the paper, with our value beside the published one."""

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from attnseg.results import FIGURES, TABLES
from attnseg.results.build import COLUMNS, NOT_HERE, read_csv
from attnseg.results.description import Row, Table, plain, rows_by_method, with_cells

MADE_ON = ("dataset", "split", "n_images", "model")
GAP = "-"  # no such value in the paper
NOT_RUN = "–"
SHOWN = ("chance", "segments:", "learnt in")  # notes of measured cells that are printed, too

STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5em; color: #1a1a1a; }
table { border-collapse: collapse; }
th, td { padding: .25em .7em; text-align: right; white-space: nowrap; }
th:first-child, td.head { text-align: left; }
thead { border-block: 1px solid #888; } tbody { border-bottom: 1px solid #888; }
th.group { text-align: center; }
tr.section td { text-align: left; font-style: italic; border-top: 1px solid #ccc; }
.ours { font-weight: 600; color: #0b5394; } .paper + .ours::before { content: " | "; color: #888; font-weight: 400; }
p, li { max-width: 60em; } .notes { color: #555; font-size: 14px; }
"""


def _layout(rows: list[dict[str, str]], target: str) -> Table:
    """The paper's layout of a known target, else one row a method and one column a metric.

    A figure's points stand one a row.
    """
    if target in TABLES:
        return with_cells(TABLES[target], [(row["method"], row["metric"]) for row in rows])
    if target in FIGURES:
        cells = [(row["method"], row["metric"]) for row in rows]
        points = tuple(Row(cell, (cell,)) for cell in cells)
        return Table(target, *FIGURES[target], ("Curve", "At"), plain(["value"]), points)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    metrics = list(dict.fromkeys(row["metric"] for row in rows))
    return Table(target, target, "", ("Method",), plain(metrics), rows_by_method(methods, metrics))


def _load(path: str | os.PathLike) -> tuple[Table, dict[tuple[str, str], dict[str, str]]]:
    rows = read_csv(path, COLUMNS)
    return _layout(rows, Path(path).stem), {(row["method"], row["metric"]): row for row in rows}


def _pair(row: dict[str, str] | None) -> tuple[str, str | None]:
    """(published value, ours); ours is None for a method that we do not run."""
    if row is None:
        return GAP, None
    ours = None if row["status"] == "published" else row["ours"] or NOT_RUN
    return row["paper"] or GAP, ours


def _cell_text(row: dict[str, str] | None) -> str:
    paper, ours = _pair(row)
    return paper if ours is None else f"{paper} | {ours}"


def _precision(row: dict[str, str]) -> str:
    """The number format that a row's note names, as in "bfloat16"."""
    named = (part for part in row["note"].split("; ") if part.startswith(("in float", "in bfloat")))
    return next(named, "").removeprefix("in ")


def _notes(rows: Sequence[dict[str, str]]) -> list[str]:
    """What ours was measured on, and why the rest was not run."""
    measured = dict.fromkeys(
        (*(row[c] for c in MADE_ON), _precision(row), row["model"] == row["method"], row["seed"])
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
    remarks = dict.fromkeys(
        part for row in rows if row["status"] == "measured" for part in row["note"].split("; ")
    )
    notes += [f"Average: {part}" for part in remarks if part.startswith("ours ±")]
    notes += [f"{part[0].upper()}{part[1:]}" for part in remarks if part.startswith(SHOWN)]
    notes += [
        f"{row['method']}, {row['metric']}: {part}"
        for row in rows
        for part in row["note"].split("; ")
        if part.endswith(NOT_HERE)
    ]
    reasons: dict[str, dict[str, list[str]]] = {}  # reason -> method -> metrics
    for row in rows:
        if row["status"] == "not run":
            methods = reasons.setdefault(row["note"].split("; ")[0], {})
            methods.setdefault(row["method"], []).append(row["metric"])
    ours = Counter(row["method"] for row in rows if row["status"] != "published")
    for reason, methods in reasons.items():
        names = [
            method if len(metrics) == ours[method] else f"{method}: {', '.join(metrics)}"
            for method, metrics in methods.items()
        ]
        notes.append(f"Not run ({'; '.join(names)}): {reason}")
    return notes


def text(path: str | os.PathLike, width: int | None = None) -> str:
    """The table for a terminal: cells are "paper | ours"; too many columns continue below.

    "-" stands where the paper has no value, "–" where ours was not run.
    """
    table, cells = _load(path)
    width = width or shutil.get_terminal_size((100, 24)).columns
    body = [[_cell_text(cells.get(cell)) for cell in row.cells] for row in table.rows]
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
            blocks.append([])  # a group that fits on a line of its own is not torn
            used = left
        for i in group:
            if blocks[-1] and used + widths[i] > width:
                blocks.append([])
                used = left
            blocks[-1].append(i)
            used += widths[i] + 2

    title = f"{table.number}. {table.title}" if table.title else table.number
    lines = [f"{title}   [paper | ours]", ""]
    for block in blocks:
        lines += _block(table, body, block, head_widths, widths, left) + [""]
    lines += _notes(list(cells.values()))
    return "\n".join(lines).rstrip() + "\n"


def _block(
    table: Table,
    body: list[list[str]],
    block: list[int],
    head_widths: list[int],
    widths: list[int],
    left: int,
) -> list[str]:
    """The lines of the columns in `block`, under their groups and beside the rows' heads."""

    def line(heads: Sequence[str], values: Sequence[str]) -> str:
        parts = [head.ljust(w) for head, w in zip(heads, head_widths, strict=True)]
        parts += [value.rjust(widths[i]) for i, value in zip(block, values, strict=True)]
        return "  ".join(parts).rstrip()

    lines = []
    if any(group for group, _ in table.columns):
        # a group that is wider than its columns widens its first one
        for group, members in groupby(block, key=lambda i: table.columns[i][0]):
            members = list(members)
            room = sum(widths[i] for i in members) + 2 * (len(members) - 1)
            widths[members[0]] += max(0, len(group) - room)
        parts = []
        for group, members in groupby(block, key=lambda i: table.columns[i][0]):
            members = list(members)
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


def _cell_html(row: dict[str, str] | None) -> str:
    paper, ours = _pair(row)
    note = f' title="{escape(row["note"])}"' if row and row["note"] else ""
    inner = f'<span class="paper">{escape(paper)}</span>'
    if ours is not None:
        inner += f'<span class="ours">{escape(ours)}</span>'
    return f"<td{note}>{inner}</td>"


def html(path: str | os.PathLike) -> str:
    """The table as one HTML page without outside parts; a cell's note shows on hovering."""
    table, cells = _load(path)
    title = f"{table.number}. {table.title}" if table.title else table.number
    lines = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1 style='font-size:1.2em'>{escape(title)}</h1>",
        "<table><thead>",
    ]
    if any(group for group, _ in table.columns):
        groups = [(g, len(list(m))) for g, m in groupby(table.columns, key=lambda c: c[0])]
        lines.append(
            f'<tr><th colspan="{len(table.heads)}"></th>'
            + "".join(f'<th class="group" colspan="{n}">{escape(g)}</th>' for g, n in groups)
            + "</tr>"
        )
    labels = [*table.heads, *(label for _, label in table.columns)]
    lines.append(
        "<tr>" + "".join(f"<th>{escape(label)}</th>" for label in labels) + "</tr></thead><tbody>"
    )
    section = ""
    for row in table.rows:
        if row.section != section:
            section = row.section
            lines.append(
                f'<tr class="section"><td colspan="{len(labels)}">{escape(section)}</td></tr>'
            )
        heads = "".join(f'<td class="head">{escape(head)}</td>' for head in row.heads)
        lines.append(
            f"<tr>{heads}{''.join(_cell_html(cells.get(cell)) for cell in row.cells)}</tr>"
        )
    lines.append("</tbody></table>")
    lines.append(
        '<p class="notes">Cells: paper | <span class="ours">ours</span>.</p><ul class="notes">'
    )
    lines += [f"<li>{escape(note)}</li>" for note in _notes(list(cells.values()))]
    lines.append("</ul></body></html>\n")
    return "\n".join(lines)
