#!/usr/bin/env python3
"""Draw Figure D.9: an image's mean IoU against the similarity of its classes.

    python scripts/make_figure_d9.py --output results/voc_figure_d9.csv \\
        --similarity work/evaluation/similarity/voc/train/base/crf

The published r and p are consistent only for about 13 points, so the paper must have drawn groups.
They are compared with r and p of 13 groups of equal size; those of the images are given as well.
Writes a tidy CSV and beside it the drawing (.svg), a page (.html) and the provenance.
"""

import sys
from pathlib import Path

import numpy as np

from attnseg.app import flags
from attnseg.errors import run
from attnseg.io import provenance
from attnseg.results.build import PUBLISHED_COLUMNS, read_csv
from attnseg.results.figures import draw_similarity, similarity_rows, write_figure
from attnseg.results.measured import read_counts, read_measured
from attnseg.results.similarity import GROUPS, grouped

PUBLISHED = Path(__file__).resolve().parent.parent / "config" / "published" / "voc_figure_d9.csv"


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="results/voc_figure_d9.csv")
    parser.add_argument(
        "--similarity", type=Path, required=True, help="output folder of measure_similarity.py"
    )
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="the paper's r and p")
    provenance.add_flags(parser)
    args = parser.parse_args(argv)
    file = args.similarity / "per_image.npz"
    about = read_measured(args.similarity / "metrics.json")
    arrays = read_counts(args.similarity, file.name)
    x, y = arrays["similarity"], arrays["miou"]
    groups = grouped(x, y, min(GROUPS, len(x)))
    published = {
        line["metric"]: (line["paper"], line["note"])
        for line in read_csv(args.published, PUBLISHED_COLUMNS)
    }
    write_figure(
        args,
        similarity_rows(x, y, groups, about, published),
        lambda path: draw_similarity(x, y, groups, path),
        {str(args.similarity): [file]},
    )
    print(f"{args.output}: {len(x)} images, r {np.corrcoef(x, y)[0, 1]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
