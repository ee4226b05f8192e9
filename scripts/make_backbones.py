#!/usr/bin/env python3
"""Make the table of backbones: readings of the attention of several models under one protocol.

    python scripts/make_backbones.py --output results/backbones.csv --benchmarks work/benchmarks \\
        --rows '[{"method": "SD 1.4, attention", "protocol": "t 150", "missing": "",
                  "files": {"Initial": "work/evaluation/masks/voc/train/once/cross_none/metrics.json"}}]'

Writes a tidy CSV, and beside it a drawing (.svg), a page (.html) and the provenance. Seconds are those of
the batches of the extraction, per photo; memory is the peak of its job with the weights and all libraries.
Nothing of the sort is published.
"""

import json
import sys

from attnseg.app import flags
from attnseg.errors import run
from attnseg.io import costs, provenance
from attnseg.results.backbones import backbone_rows, draw_backbones
from attnseg.results.figures import write_figure


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="results/backbones.csv")
    parser.add_argument("--rows", type=json.loads, required=True, help="JSON, as above")
    provenance.add_flags(parser)
    args = parser.parse_args(argv)
    jobs = costs.read_jobs(args.benchmarks) if args.benchmarks else []
    lines = backbone_rows(args.rows, jobs)
    used = {
        f"{row['method']}, {m}": [file] for row in args.rows for m, file in row["files"].items()
    }
    write_figure(args, lines, lambda path: draw_backbones(lines, path), used)
    measured = sum(line["status"] == "measured" for line in lines)
    print(f"{args.output}: {measured} of {len(lines)} values measured")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
