#!/usr/bin/env python3
"""Make one table of the papers: published values beside what was measured here.

    python scripts/make_table.py voc_table1 \\
        --evaluation masks/voc/train/base/crf=work/evaluation/masks/voc/train/base/crf/metrics.json \\
        --output results/voc_table1.csv

Writes the tidy CSV, and beside it <target>.provenance.json and <target>.html (as in the paper).
Cells of missing evaluations are `not run`, with the reason in the note; --needs prints the names of
the evaluations in the table.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io import provenance
from attnseg.io.files import write_json
from attnseg.results import TABLES, competitors, evaluations_needed, find, pages, render
from attnseg.results.build import (
    read_evaluations,
    read_published,
    table_rows,
    with_submissions,
    write_rows,
)

PUBLISHED = Path(__file__).resolve().parent.parent / "config" / "published"

COSTS = ("seconds_per_instance",)  # of a metrics.json, repeated in the provenance


def parser() -> argparse.ArgumentParser:
    p = flags.program(__doc__)
    p.add_argument("target", metavar="TARGET", help=f"one of: {', '.join(TABLES)}")
    p.add_argument(
        "--published",
        type=Path,
        metavar="CSV",
        help="method,metric,paper,note (default: config/published/TARGET.csv)",
    )
    p.add_argument(
        "--evaluation",
        "--evaluations",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="a metrics.json and the evaluation's name; may be repeated",
    )
    p.add_argument(
        "--left-out",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=COMMAND",
        help="an evaluation that this run leaves out, and the command that makes it",
    )
    p.add_argument(
        "--submissions",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=FILE",
        help="an evaluation that only a server can make, and the record of the archive for it",
    )
    p.add_argument(
        "--methods",
        type=json.loads,
        default={},
        metavar="JSON",
        help='cells of competing methods that are measured, {label: {metric: [evaluation, "miou"]}}',
    )
    p.add_argument("--output", type=Path, metavar="CSV", help="results/TARGET.csv")
    provenance.add_flags(p)
    p.add_argument(
        "--data",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=HASH",
        help="SHA-256 of a data set, or a path to be hashed",
    )
    p.add_argument(
        "--model",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=HASH",
        help="SHA-256 of a model, or a path to be hashed",
    )
    p.add_argument("--needs", action="store_true", help="print the evaluations' names and stop")
    p.add_argument("--show", action="store_true", help="print the table too")
    return p


def named(values: list[str], flag: str) -> dict[str, str]:
    """["NAME=VALUE", ...] as a dictionary."""
    pairs: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition("=")
        if not (name and equals and rest):
            raise UserError(f"{flag} {value}: write it as NAME=VALUE")
        if name in pairs:
            raise UserError(f"{flag} {name} is given twice")
        pairs[name] = rest
    return pairs


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    table = competitors.told(find(args.target), args.methods)
    if args.needs:
        print("\n".join(evaluations_needed(table)))
        return 0
    if args.output is None or args.output.suffix != ".csv":
        raise UserError("--output must name a .csv file, as in --output results/voc_table1.csv")

    files = named(args.evaluation, "--evaluation")
    table = with_submissions(table, named(args.submissions, "--submissions"))
    published = read_published(args.published or PUBLISHED / f"{table.target}.csv", table)
    evaluations = read_evaluations(files, table)
    rows = table_rows(table, published, evaluations, named(args.left_out, "--left-out"))
    record = provenance.record(
        args,
        {name: [path] for name, path in files.items()},
        data=named(args.data, "--data"),
        models=named(args.model, "--model"),
        target=table.target,
        table=table.number,
        costs={
            name: {key: metrics[key] for key in COSTS if key in metrics}
            for name, metrics in evaluations.items()
        },
    )

    write_rows(args.output, rows)
    write_json(args.output.with_suffix(".provenance.json"), record)
    pages.write_page(args.output)
    status = Counter(row["status"] for row in rows)
    counts = ", ".join(f"{status[s]} {s}" for s in ("measured", "published", "not run"))
    print(f"{args.output}: {counts}")
    if args.show:
        print(f"\n{render.text(args.output)}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
