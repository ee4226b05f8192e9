#!/usr/bin/env python3
"""Put the ledger, tables, figures, run times and provenance into one zip that opens in a browser."""

import argparse
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from attnseg.app import flags
from attnseg.errors import run
from attnseg.io.costs import Job, read_jobs
from attnseg.io.files import write_atomically
from attnseg.results import FIGURES, PICTURES, TABLES, ledger, pages
from attnseg.results.measured import read_measured


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="report.zip")
    parser.add_argument("--tables", type=Path, nargs="*", default=[], help="results/*.csv")
    parser.add_argument("--figures", type=Path, nargs="*", default=[], help="SVG and PNG files")
    parser.add_argument("--captions", type=Path, nargs="*", default=[], help="<target>.rst")
    parser.add_argument("--references", type=Path, nargs="*", default=[], help="metrics.json files")
    parser.add_argument("--dag", type=Path, help="drawing of the graph of rules, SVG")
    parser.add_argument("--benchmarks", type=Path, help="folder of the jobs' records")
    args = parser.parse_args(argv)
    figures = [*args.figures, *([args.dag] if args.dag else [])]
    with (
        write_atomically(args.output) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        archive.writestr("index.html", page(args))
        for figure in figures:
            archive.write(figure, f"figures/{figure.name}")
        for table in args.tables:
            archive.write(table, f"tables/{table.name}")
            if table.stem != "claims":
                archive.writestr(f"tables/{table.stem}.html", pages.table_page(table))
            record = table.with_suffix(".provenance.json")
            if record.exists():
                archive.write(record, f"tables/{record.name}")
    print(f"{len(args.tables)} tables and {len(figures)} figures in {args.output}")
    return 0


def page(args: argparse.Namespace) -> str:
    """The page that shows everything, the ledger first."""
    captions = {path.stem: own_words(path) for path in args.figures if path.suffix == ".png"}
    captions |= {path.stem: " ".join(path.read_text().split()) for path in args.captions}
    targets = targets_of(args.tables, args.figures, captions)
    claims = [row for path in args.tables if path.stem == "claims" for row in claims_of(path)]
    records = {path.stem: pages.record_of(path) for path in args.tables}
    records = {name: record for name, record in records.items() if record}
    origins = [{"name": name, **pages.origin_of(record)} for name, record in records.items()]
    links = [
        *([("claims", "Claims")] if claims else []),
        *((target["name"], target["title"]) for target in targets),
        *([("references", "References")] if args.references else []),
        *([("dag", "Rules")] if args.dag else []),
        *([("cost", "Run time and cost")] if args.benchmarks else []),
        ("provenance", "Provenance"),
    ]
    return pages.filled(
        "report.html",
        links=links,
        datasets=pages.distinct([t["table"]["datasets"] for t in targets if t["table"]]),
        made=pages.distinct([origin["made"] for origin in origins]),
        claims=claims,
        summary=ledger.summary(claims),
        targets=targets,
        references=[reference(path) for path in args.references],
        dag=args.dag and args.dag.name,
        costs=costs_of(args.benchmarks) if args.benchmarks else None,
        origins=origins,
        recorded=set(records),
        record=next(reversed(records.values()), None),  # packages and configuration, once
    )


def own_words(picture: Path) -> str:
    """What a PNG file says of itself."""
    with Image.open(picture) as image:
        return image.info.get("Description", "")


def claims_of(path: Path) -> list[dict[str, str]]:
    """The rows of the ledger, with their intervals."""
    return [row | {"interval": ledger.interval(row)} for row in ledger.read_ledger(path)]


def targets_of(
    tables: Sequence[Path], figures: Sequence[Path], captions: dict[str, str]
) -> list[dict[str, Any]]:
    """Tables, figures and pictures in the order of the papers."""
    named = {path.stem: path for path in tables if path.stem != "claims"}
    drawn = {path.stem: path for path in figures}
    numbers = {name: table.number for name, table in TABLES.items()}
    numbers |= {name: number for name, (number, _) in (FIGURES | PICTURES).items()}
    papers = [number.split(",")[0] for number in numbers.values()]
    numbers = dict(sorted(numbers.items(), key=lambda item: papers.index(item[1].split(",")[0])))
    found = {**named, **drawn}
    return [
        {
            "name": name,
            "title": numbers.get(name, name),
            "caption": captions.get(name, ""),
            "figure": drawn[name].name if name in drawn else None,
            "table": pages.table_of(named[name]) if name in named else None,
        }
        for name in dict.fromkeys([*(n for n in numbers if n in found), *found])
    ]


def reference(path: Path) -> tuple[str, str]:
    """(which masks, their mean IoU) of a metrics.json."""
    parts = path.parent.parts[-4:] if "reference" in path.parts else path.parent.parts[-2:]
    return " / ".join(parts), f"{read_measured(path)['miou']:.1f}"


def costs_of(folder: Path) -> dict[str, object]:
    """Every rule with its jobs, minutes and memory, most expensive first, and the hours of all."""
    jobs = read_jobs(folder)
    by_rule: dict[str, list[Job]] = {}
    for job in jobs:
        by_rule.setdefault(job.rule, []).append(job)
    rows = [
        (
            rule,
            len(its),
            f"{sum(job.seconds for job in its) / 60:.1f}",
            f"{sum(job.cpu_seconds for job in its) / 60:.1f}",
            f"{max(job.seconds for job in its) / 60:.1f}",
            f"{max(job.peak_mib for job in its):,.0f}",
        )
        for rule, its in sorted(by_rule.items(), key=lambda item: -sum(j.seconds for j in item[1]))
    ]
    return {
        "rows": rows,
        "jobs": len(jobs),
        "hours": sum(job.seconds for job in jobs) / 3600,
        "cpu_hours": sum(job.cpu_seconds for job in jobs) / 3600,
    }


if __name__ == "__main__":
    sys.exit(run(main))
