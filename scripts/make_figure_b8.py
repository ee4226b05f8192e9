#!/usr/bin/env python3
"""Draw Figure B.8: the mean IoU of pseudo masks as a function of one setting at a time.

    python scripts/make_figure_b8.py --output results/voc_figure_b8.csv \\
        --curves '{"Time step": [{"at": 50, "masks": "t_50/crf"}]}' \\
        --evaluations t_50/crf=work/evaluation/masks/voc/train/t_50/crf/metrics.json

Writes the points as a tidy CSV, and beside it the curves (.svg), the points as a page (.html) and the
provenance. The paper prints curves without numbers.
"""

import json
import sys

from attnseg.app import flags
from attnseg.errors import run
from attnseg.io import provenance
from attnseg.results.figures import curve_rows, draw_curves, write_figure
from attnseg.results.measured import read_measured


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="results/voc_figure_b8.csv")
    parser.add_argument("--curves", type=json.loads, required=True, help="JSON, as configured")
    parser.add_argument(
        "--evaluations", nargs="+", required=True, metavar="MASKS=FILE", help="metrics.json files"
    )
    provenance.add_flags(parser)
    args = parser.parse_args(argv)
    files = dict(pair.split("=", 1) for pair in args.evaluations)
    measured = {name: read_measured(path) for name, path in files.items()}
    write_figure(
        args,
        curve_rows(args.curves, measured),
        lambda path: draw_curves(args.curves, measured, path),
        {name: [path] for name, path in files.items()},
    )
    print(f"{args.output}: {len(measured)} masks on {len(args.curves)} curves")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
