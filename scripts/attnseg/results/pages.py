"""HTML pages from rows, by the templates beside this file: one table alone, and what the report shows.

Every value is escaped where it is put in; no page needs anything from outside.
"""

import json
import os
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import jinja2

from attnseg.io.files import write_atomically
from attnseg.results import render
from attnseg.results.notes import dump

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.filters["pretty"] = lambda value: json.dumps(value, indent=1)
ENVIRONMENT.tests["drawn"] = lambda dataset: dataset.startswith("mini_")


def filled(template: str, **values: object) -> str:
    """A template with its values."""
    return ENVIRONMENT.get_template(template).render(values)


def write_page(path: str | os.PathLike) -> None:
    """<target>.html beside a tidy CSV, with its provenance where that has been written."""
    with write_atomically(Path(path).with_suffix(".html")) as partial:
        partial.write_text(table_page(path), encoding="utf-8")


def table_page(path: str | os.PathLike) -> str:
    """The page of one tidy CSV."""
    record = record_of(path)
    return filled("table.html", table=table_of(path), record=record, **origin_of(record))


def table_of(path: str | os.PathLike) -> dict[str, object]:
    """A tidy CSV as the templates take it."""
    table, cells = render.load(path)

    def cell(name: tuple[str, str] | None) -> dict[str, str | None]:
        row = cells.get(name) if name else None
        paper, ours = render.pair(row)
        return {"paper": paper, "ours": ours, "note": dump(row["note"]) if row else ""}

    groups = [(name, len(list(columns))) for name, columns in groupby(g for g, _ in table.columns)]
    return {
        "name": Path(path).stem,
        "title": render.heading(table),
        "heads": table.heads,
        "groups": groups if any(name for name, _ in groups) else [],
        "columns": [label for _, label in table.columns],
        "sections": [
            (section, [{"heads": row.heads, "cells": [*map(cell, row.cells)]} for row in rows])
            for section, rows in groupby(table.rows, key=lambda row: row.section)
        ],
        "notes": render.notes_under([*cells.values()]),
        "datasets": render.datasets(cells.values()),
    }


def record_of(path: str | os.PathLike) -> dict | None:
    """The provenance beside a CSV, None where there is none."""
    file = Path(path).with_suffix(".provenance.json")
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def origin_of(record: dict | None) -> dict[str, object]:
    """Date and revision, machine and hashes of a record, in words."""
    if record is None:
        return {"made": [], "machine": "", "hashes": []}
    git, device = record["git"], record["device"]
    revision = (git["revision"] or "unknown")[:10] + (" with changes" if git["dirty"] else "")
    date = f"{record['date']} " if "date" in record else ""
    return {
        "made": [f"{date}at revision {revision}"],
        "machine": ", ".join([device["processor"], f"{device['cores']} cores", *device["gpus"]]),
        "hashes": [
            (name, value[:10]) for name, value in {**record["data"], **record["models"]}.items()
        ],
    }


def distinct(lists: Sequence[Sequence[str]]) -> list[str]:
    """Their items in order, each once."""
    return list(dict.fromkeys(item for items in lists for item in items))
