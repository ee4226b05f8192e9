#!/usr/bin/env python3
"""Draw Figure D.9: an image's mean IoU against the similarity of its classes.

    python scripts/make_figure_d9.py --output results/voc_figure_d9.csv \\
        --similarity work/evaluation/similarity/voc/train/base/crf

The published r and p are consistent only for about 13 points, so the paper must have drawn groups.
They are compared with r and p of 13 groups of equal size; those of the images are given as well.
Writes a tidy CSV and beside it the drawing (.svg), a page (.html) and the provenance.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib
import numpy as np

from attnseg.errors import UserError, run
from attnseg.io import provenance
from attnseg.io.files import write_atomically, write_json
from attnseg.results import render
from attnseg.results.build import COLUMNS, PUBLISHED_COLUMNS, read_csv, write_rows
from attnseg.results.similarity import GROUPS, grouped, regression

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "attnseg"  # the same drawing is the same file
import matplotlib.pyplot as plt  # noqa: E402

PUBLISHED = Path(__file__).resolve().parent.parent / "config" / "published" / "voc_figure_d9.csv"
BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#999999"  # of the palette of Okabe and Ito


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--similarity", type=Path, required=True, help="output folder of measure_similarity.py"
    )
    parser.add_argument("--published", type=Path, default=PUBLISHED, help="the paper's r and p")
    provenance.add_flags(parser)
    parser.add_argument("--output", type=Path, required=True, help="results/voc_figure_d9.csv")
    args = parser.parse_args(argv)
    file = args.similarity / "per_image.npz"
    try:
        about = json.loads((args.similarity / "metrics.json").read_text())
        with np.load(file, allow_pickle=False) as arrays:
            x, y = arrays["similarity"], arrays["miou"]
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{args.similarity}: {error}; run measure_similarity again") from None
    groups = grouped(x, y, min(GROUPS, len(x)))
    published = {
        line["metric"]: (line["paper"], line["note"])
        for line in read_csv(args.published, PUBLISHED_COLUMNS)
    }
    write_rows(args.output, rows_of(x, y, groups, about, published))
    with write_atomically(args.output.with_suffix(".svg")) as partial:
        draw(x, y, groups, partial)
    with write_atomically(args.output.with_suffix(".html")) as partial:
        partial.write_text(render.html(args.output), encoding="utf-8")
    record = provenance.record(args, {str(args.similarity): [file]}, target=args.output.stem)
    write_json(args.output.with_suffix(".provenance.json"), record)
    print(f"{args.output}: {len(x)} images, r {np.corrcoef(x, y)[0, 1]:.2f}")
    return 0


def rows_of(x, y, groups, about: dict, published: dict) -> list[dict[str, str]]:
    """Rows of the CSV: r and p of the groups and of the images, then the groups."""
    _, _, r, p = regression(*groups)
    _, _, r_images, p_images = regression(x, y)
    count = len(groups[0])
    cells = [
        ("Ours", "r", f"{r:.2f}", f"of {count} groups of equal count"),
        ("Ours", "p", f"{p:.2g}", f"of {count} groups of equal count"),
        ("Ours", "r of images", f"{r_images:.2f}", ""),
        ("Ours", "p of images", f"{p_images:.2g}", ""),
    ]
    for number, (similarity, score) in enumerate(zip(*groups, strict=True), 1):
        cells.append((f"Group {number}", "similarity", f"{similarity:.3f}", "cosine"))
        cells.append((f"Group {number}", "mIoU", f"{score:.1f}", "of an image, on average"))
    columns = {
        key: "" if about.get(key) is None else str(about[key])
        for key in ("dataset", "split", "n_images", "model", "seed")
    }
    rows = []
    for method, metric, ours, note in cells:
        paper, remark = published.get(metric, ("", "")) if method == "Ours" else ("", "")
        row = dict.fromkeys(COLUMNS, "") | columns
        row |= {"method": method, "metric": metric, "paper": paper, "ours": ours}
        row |= {"status": "measured", "note": "; ".join(filter(None, (note, remark)))}
        rows.append(row)
    return rows


def draw(x, y, groups, path: Path) -> None:
    """Draw images as dots, groups as squares, and the regression line of the groups."""
    slope, intercept, r, p = regression(*groups)
    plot, axis = plt.subplots(figsize=(6, 4))
    axis.plot(x, y, ".", color=GREY, alpha=0.5, markersize=4, label=f"{len(x)} images")
    axis.plot(*groups, "s", color=BLUE, label=f"{len(groups[0])} groups of equal count")
    ends = np.array([x.min(), x.max()])
    axis.plot(
        ends, slope * ends + intercept, color=VERMILION, label=f"groups: r = {r:.2f}, p = {p:.2g}"
    )
    axis.set_xlabel("mean cosine similarity of the classes' text embeddings")
    axis.set_ylabel("mIoU of the image, %")
    axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 1.13), ncols=3, frameon=False)
    axis.grid(alpha=0.3)
    plot.tight_layout()
    plot.savefig(path, metadata={"Date": None})
    plt.close(plot)


if __name__ == "__main__":
    sys.exit(run(main))
