"""A table's tidy CSV, from the published values and the evaluations of a run."""

import csv
import difflib
import json
import os
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypedDict, cast

from attnseg.errors import UserError
from attnseg.io.files import write_atomically
from attnseg.results import evaluations_needed
from attnseg.results.description import Cell, Finding, Source, Table
from attnseg.results.notes import Note, dump, parse

PUBLISHED_COLUMNS = ("method", "metric", "paper", "note")
COLUMNS = (
    *("method", "metric", "paper", "ours", "status"),
    *("dataset", "split", "n_images", "model", "seed", "note"),
)


class Line(TypedDict, total=False):
    """A line of the tidy CSV, or some of its columns: text in all but `note`."""

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
    """The lines of a CSV that has exactly `columns`."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            lines = list(reader)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from error
    if tuple(reader.fieldnames or ()) != columns:
        raise UserError(f"{path}: the columns must be {','.join(columns)}")
    for number, line in enumerate(lines, 2):
        if None in line or None in line.values():
            raise UserError(f"{path}, line {number}: {len(columns)} values are needed")
    return lines


def read_published(path: str | os.PathLike, table: Table) -> dict[Cell, tuple[str, str]]:
    """(method, metric) -> (value as printed, note), checked against the table's labels."""
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
            raise UserError(f"{where}: {line['paper']!r} is no number") from None
        published[cell] = (line["paper"], line["note"])
    return published


def read_evaluations(paths: Mapping[str, str | os.PathLike], table: Table) -> dict[str, dict]:
    """Name of an evaluation -> its metrics.json."""
    known = evaluations_needed(table, pending=True)
    evaluations = {}
    for name, path in paths.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]}?" if near else f"it uses {', '.join(known) or 'none'}"
            raise UserError(f"{table.target} uses no evaluation {name}; {advice}")
        try:
            evaluations[name] = json.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path} (evaluation {name}): {error.strerror}") from error
        except ValueError as error:
            raise UserError(f"{path} (evaluation {name}) is no JSON: make it again") from error
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
    """One number of a metrics.json: `key`, or `iou/<class>`. None where nothing was measured."""
    if key.startswith("iou/"):
        label = key.removeprefix("iou/")
        classes = metrics.get("classes") or []
        if label not in classes:
            raise UserError(f"evaluation {name} has no class {label}")
        if metrics.get("iou") is None:
            return None
        return metrics["iou"][classes.index(label)]
    if key not in metrics:
        raise UserError(f"evaluation {name} has no {key} in its metrics.json: evaluate it again")
    return metrics[key]


def _joined(values: list) -> str:
    """The distinct values, in order: one for a plain cell, the seeds for a mean over seeds."""
    return " ".join(dict.fromkeys("" if value is None else str(value) for value in values))


def _measured(
    source: Source, evaluations: Mapping[str, Mapping], left_out: Mapping[str, str]
) -> Line:
    """The columns of a row that say what we measured, or why we did not."""
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
    remarks = list(dict.fromkeys(remark for m in found for remark in m.get("remarks") or ()))
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


def _line(columns: Mapping[str, str], note: Note) -> Line:
    """The columns of a tidy CSV with a note in place of its text."""
    return cast(Line, {**columns, "note": note})


def table_rows(
    table: Table,
    published: Mapping[Cell, tuple[str, str]],
    evaluations: Mapping[str, Mapping],
    left_out: Mapping[str, str] | None = None,
) -> list[Line]:
    """The lines of the tidy CSV: the published cells in their order, then those only we have.

    left_out: evaluations that the run leaves out, and the commands that make them.
    """
    cells = [*published, *(c for c in table.cells if c in table.ours and c not in published)]
    rows = []
    for cell in cells:
        paper, note = published.get(cell, ("", ""))
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
    return rows


def add_outcome(finding: Finding, better: Line, worse: Line) -> None:
    """Note in the better row whether a finding holds here; nothing where one was not measured."""
    if "" in (better["ours"], worse["ours"]):
        return
    other = finding.worse[0] if finding.worse[0] != finding.better[0] else finding.worse[1]
    here = float(better["ours"]) - float(worse["ours"])
    words = f"{here:+.1f} over {other}"
    if better["paper"] and worse["paper"]:
        words += f" (paper {float(better['paper']) - float(worse['paper']):+.1f})"
    (better["note"].holds if here > 0 else better["note"].does_not_hold).append(words)


def read_rows(path: str | os.PathLike) -> list[Line]:
    """The lines of a tidy CSV."""
    return [_line(row, parse(row["note"])) for row in read_csv(path, COLUMNS)]


def write_rows(path: str | os.PathLike, rows: list[Line]) -> None:
    """The tidy CSV, atomically."""
    with (
        write_atomically(path) as partial,
        open(partial, "w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "note": dump(row["note"])} for row in rows)
