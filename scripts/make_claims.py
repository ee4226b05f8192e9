#!/usr/bin/env python3
"""Make the ledger: test each claim of the papers that a run can check.

    python scripts/make_claims.py --output results/claims.csv \\
        --evaluations masks/voc/train/base/crf=work/evaluation/masks/voc/train/base/crf/metrics.json ...

A difference has the 95 % interval of a paired bootstrap over images, computed from the per-image
counts beside each metrics.json. A claim holds if the interval is on the claimed side of 0, does not
hold if it is on the other side, and is otherwise undecided. A trained segmentor needs three seeds,
NAME=FILE once per seed; with fewer the verdict is "one run".
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io import provenance
from attnseg.io.files import write_json
from attnseg.results import TABLES
from attnseg.results.build import read_published
from attnseg.results.claims import CLAIMS, evaluations_needed
from attnseg.results.ledger import summary, write_ledger
from attnseg.results.verdicts import judge, paper_difference
from attnseg.settings import Claims

PUBLISHED = Path(__file__).resolve().parent.parent / "config" / "published"


def parser() -> argparse.ArgumentParser:
    p = flags.program(__doc__)
    p.add_argument("--evaluations", nargs="*", default=[], metavar="NAME=FILE", help="metrics.json")
    p.add_argument("--published", type=Path, default=PUBLISHED, help="folder of published values")
    p.add_argument("--resamples", type=int, default=Claims().resamples, help="of the bootstrap")
    provenance.add_flags(p)
    p.add_argument("--output", type=Path, help="results/claims.csv")
    p.add_argument("--needs", action="store_true", help="print the evaluations' names and stop")
    return p


def runs_of(values: Sequence[str]) -> dict[str, list[Path]]:
    """metrics.json of each run, by evaluation."""
    known = evaluations_needed()
    found: dict[str, list[Path]] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not (name and equals and path):
            raise UserError(f"--evaluations {value}: write it as NAME=FILE")
        if name not in known:
            raise UserError(f"--evaluations {name}: no claim uses it; --needs lists what they use")
        found.setdefault(name, []).append(Path(path))
    return found


def published_values(folder: Path) -> dict[tuple[str, str, str], float]:
    """The paper's values by (target, method, metric)."""
    cells = (q.cell for claim in CLAIMS for q in claim.measurements if q.cell)
    return {
        (target, *cell): float(value)
        for target in dict.fromkeys(cell[0] for cell in cells)
        for cell, (value, _) in read_published(folder / f"{target}.csv", TABLES[target]).items()
    }


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.needs:
        print("\n".join(evaluations_needed()))
        return 0
    if args.output is None:
        raise UserError("--output: name the CSV to write, as in results/claims.csv")
    if args.resamples < 100:
        raise UserError(f"--resamples {args.resamples}: at least 100, for an interval of 95 %")
    evaluations, published = runs_of(args.evaluations), published_values(args.published)
    rows = [
        judge(claim, evaluations, args.resamples)
        | {"paper_difference": paper_difference(claim, published)}
        for claim in CLAIMS
    ]
    record = provenance.record(args, evaluations, target="claims", resamples=args.resamples)
    write_ledger(args.output, rows)
    write_json(args.output.with_suffix(".provenance.json"), record)
    print(f"{args.output}: {summary(rows)}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
