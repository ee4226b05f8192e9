"""Build a table's tidy CSV from the published values and the evaluations of a run."""

import csv
import difflib
import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict, cast

from attnseg.errors import UserError, readable
from attnseg.io.files import write_atomically
from attnseg.results import evaluations_needed
from attnseg.results.description import Cell, Finding, Nearest, Source, Table, as_printed
from attnseg.results.measured import read_measured
from attnseg.results.notes import Note, dump, parse

PUBLISHED_COLUMNS = ("method", "metric", "paper", "note")
COLUMNS = (
    *("method", "metric", "paper", "ours", "status"),
    *("dataset", "split", "n_images", "model", "seed", "note"),
)


class Line(TypedDict, total=False):
    """A line of the tidy CSV, or some of its columns; all but `note` are text."""

    method: str
    metric: str
    paper: str
    ours: str
    status: str
    dataset: str
    split: str
    n_images: str
    model: str
    seed: str
    note: Note


def read_csv(path: str | os.PathLike, columns: tuple[str, ...]) -> list[dict[str, str]]:
    """Read a CSV whose columns must be exactly `columns`."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lines, names = list(reader), tuple(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: {reason}") from error
    if names != columns:
        raise UserError(f"{path}: the columns must be {','.join(columns)}")
    for number, line in enumerate(lines, 2):
        if None in line or None in line.values():
            raise UserError(f"{path}, line {number}: {len(columns)} values are needed")
    return lines


def read_published(path: str | os.PathLike, table: Table) -> dict[Cell, tuple[str, str]]:
    """Read {(method, metric): (value as printed, note)}, checked against the table's labels."""
    known = set(table.cells)
    published: dict[Cell, tuple[str, str]] = {}
    for number, line in enumerate(read_csv(path, PUBLISHED_COLUMNS), 2):
        cell = (line["method"], line["metric"])
        where = f"{path}, line {number}"
        if cell not in known:
            raise UserError(f"{where}: {table.target} has no cell {cell[0]!r}, {cell[1]!r}")
        if cell in published:
            raise UserError(f"{where}: {cell[0]!r}, {cell[1]!r} is there twice")
        try:
            float(line["paper"])
        except ValueError:
            raise UserError(f"{where}: {line['paper']!r} is not a number") from None
        published[cell] = (line["paper"], line["note"])
    return published


def read_evaluations(paths: Mapping[str, str | os.PathLike], table: Table) -> dict[str, dict]:
    """Read each evaluation's metrics.json, by name."""
    known = evaluations_needed(table, pending=True)
    evaluations = {}
    for name, path in paths.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]}?" if near else f"it uses {', '.join(known) or 'none'}"
            raise UserError(f"{table.target} uses no evaluation {name}; {advice}")
        evaluations[name] = read_measured(path)
    return evaluations


def with_submissions(table: Table, records: Mapping[str, str | os.PathLike]) -> Table:
    """The table with, where there is no archive for an evaluation server, the reason and the command.

    records: evaluation -> the JSON of make_submission.
    """
    ours = dict(table.ours)
    for cell, source in ours.items():
        for name in set(source.evaluations) & set(records):
            path = Path(records[name])
            record = json.loads(path.read_text())
            if record["archive"] is None:
                reason = (
                    f"no archive {path.with_suffix('.tgz')} for the evaluation server was made: "
                    f"{record['missing']}; once the photos are there, "
                    f"`snakemake --force {path} --cores all` with the options of this run makes it"
                )
                ours[cell] = replace(source, missing=reason)
    return replace(table, ours=ours)


def measurement(name: str, metrics: Mapping, key: str) -> float | None:
    """Look up `key`, or `iou/<class>`, in a metrics.json. None if nothing was measured."""
    if key.startswith("iou/"):
        label = key.removeprefix("iou/")
        with readable(f"evaluation {name}: metrics.json", "evaluate it again"):
            classes = list(metrics.get("classes") or [])
            if label not in classes:
                raise UserError(f"evaluation {name} has no class {label}")
            return None if metrics.get("iou") is None else metrics["iou"][classes.index(label)]
    if key not in metrics:
        raise UserError(f"evaluation {name} has no {key} in its metrics.json: evaluate it again")
    return metrics[key]


def _joined(values: list) -> str:
    """Join the distinct values in order, such as the seeds of a mean over seeds."""
    return " ".join(dict.fromkeys("" if value is None else str(value) for value in values))


def _measured(
    source: Source, evaluations: Mapping[str, Mapping], left_out: Mapping[str, str]
) -> Line:
    """The columns of a row with our value and its origin, or the reason why there is none."""
    absent = [name for name in source.evaluations if name not in evaluations]
    if absent:
        several = f": {', '.join(absent)}" if len(source.evaluations) > 1 else ""
        command = left_out.get(absent[0])
        note = Note(left_out=command) if command else Note(not_run=source.missing + several)
        return {"status": "not run", "note": note}

    found = [evaluations[name] for name in source.evaluations]
    measured = [
        measurement(name, metrics, source.metric)
        for name, metrics in zip(source.evaluations, found, strict=True)
    ]
    remarks = [remark for m in found for remark in m.get("remarks") or ()]
    if source.background is not None:
        remarks += [remark for m in found for remark in _background(m, source.background)]
    remarks = list(dict.fromkeys(remarks))
    values = [value for value in measured if value is not None]
    if len(values) < len(measured):
        reason = "no pixel of the class" if source.metric.startswith("iou/") else source.missing
        return {"status": "not run", "note": Note(not_run="; ".join(remarks) or reason)}
    note = Note(
        precision=_joined([m["precision"] for m in found if m.get("precision")]), remark=remarks
    )
    if len(values) > 1:
        note.spread = f"± {statistics.stdev(values):.{source.decimals}f} over {len(values)} runs"
    return {
        "status": "measured",
        "ours": f"{statistics.fmean(values):.{source.decimals}f}",
        "dataset": _joined([metrics.get("dataset") for metrics in found]),
        "split": _joined([metrics.get("split") for metrics in found]),
        "n_images": _joined([metrics.get("n_images") for metrics in found]),
        "model": _joined([metrics.get("model") for metrics in found]),
        "seed": _joined([metrics.get("seed") for metrics in found]),
        "note": note,
    }


def _background(metrics: Mapping, expected: float) -> list[str]:
    """What to say where masks have another background score than at the paper scale."""
    options = (metrics.get("parameters") or {}).get("options", {})
    used = options.get("background", {}).get("threshold", 1.0)
    if used == expected:
        return []
    return [
        f"{metrics['dataset']}'s background score is ({used:g} - max)², not ({expected:g} - max)², under "
        f"the profile `{options.get('profile', 'paper')}`"
    ]


def _line(columns: Mapping[str, str], note: Note) -> Line:
    """Columns of a tidy CSV, with a parsed note."""
    return cast(Line, {**columns, "note": note})


def table_rows(
    table: Table,
    published: Mapping[Cell, tuple[str, str]],
    evaluations: Mapping[str, Mapping],
    left_out: Mapping[str, str] | None = None,
) -> list[Line]:
    """Build the lines of the tidy CSV: the published cells in their order, then those that only we have.

    left_out: evaluations that are not part of this run, and the commands that make them.
    """
    cells = [*published, *(c for c in table.cells if c in table.ours and c not in published)]
    rows = []
    for cell in cells:
        paper, note = published.get(as_printed(cell), ("", ""))
        row = _line(dict.fromkeys(COLUMNS, ""), Note())
        row.update({"method": cell[0], "metric": cell[1], "paper": paper})
        if cell in table.ours:
            row.update(_measured(table.ours[cell], evaluations, left_out or {}))
        else:
            row["status"] = "published"
        row["note"].paper = note
        rows.append(row)
    by_cell = {(row["method"], row["metric"]): row for row in rows}
    for finding in table.findings:
        better, worse = by_cell[finding.better], by_cell[finding.worse]
        add_outcome(finding, better, worse)
    if table.nearest is not None:
        add_nearest(table.nearest, by_cell)
    return rows


def add_outcome(finding: Finding, better: Line, worse: Line) -> None:
    """Note in the better row whether a finding holds here, if both rows were measured."""
    if "" in (better["ours"], worse["ours"]):
        return
    other = finding.worse[0] if finding.worse[0] != finding.better[0] else finding.worse[1]
    here = float(better["ours"]) - float(worse["ours"])
    words = f"{here:+.1f} over {other}"
    if better["paper"] and worse["paper"]:
        words += f" (paper {float(better['paper']) - float(worse['paper']):+.1f})"
    (better["note"].holds if here > 0 else better["note"].does_not_hold).append(words)


def add_nearest(nearest: Nearest, rows: Mapping[Cell, Line]) -> None:
    """Remark with which way the differences are nearest to the paper's; nothing where one was not
    measured."""

    def differences(pairs: Sequence[tuple[Cell, Cell]], column: Literal["paper", "ours"]) -> list:
        return [float(rows[a][column]) - float(rows[b][column]) for a, b in pairs]

    first = next(iter(nearest.ways.values()))
    if any(
        rows[c]["ours"] == "" for pairs in nearest.ways.values() for pair in pairs for c in pair
    ):
        return
    paper = differences(first, "paper")
    found = {way: differences(pairs, "ours") for way, pairs in nearest.ways.items()}
    off = {
        way: statistics.fmean(abs(a - b) for a, b in zip(values, paper, strict=True))
        for way, values in found.items()
    }
    said = [
        f"{', '.join(f'{value:+.1f}' for value in values)} {way}"
        for way, values in ({"in the paper": paper} | found).items()
    ]
    names = " and ".join(a[0] for a, _ in first)
    rows[first[0][0]]["note"].remark.append(
        f"{names} over {first[0][1][0]}: {'; '.join(said)}. Nearest to the paper: "
        f"{min(off, key=lambda way: off[way])}"
    )


def read_rows(path: str | os.PathLike) -> list[Line]:
    """Read a tidy CSV."""
    return [_line(row, parse(row["note"])) for row in read_csv(path, COLUMNS)]


def write_rows(path: str | os.PathLike, rows: list[Line]) -> None:
    """Write a tidy CSV atomically."""
    with (
        write_atomically(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "note": dump(row["note"])} for row in rows)
