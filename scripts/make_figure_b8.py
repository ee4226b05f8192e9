#!/usr/bin/env python3
"""Draw Figure B.8: the mean IoU of pseudo masks as a function of one setting at a time.

    python scripts/make_figure_b8.py --output results/voc_figure_b8.csv \\
        --curves '{"Time step": [{"at": 50, "masks": "t_50/crf"}]}' \\
        --evaluations t_50/crf=work/evaluation/masks/voc/train/t_50/crf/metrics.json

Writes the points as a tidy CSV, and beside it the curves (.svg), the points as a page (.html) and the
provenance. The paper prints curves without numbers.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import matplotlib

from attnseg.errors import UserError, run
from attnseg.io import provenance
from attnseg.io.files import write_atomically, write_json
from attnseg.results import render
from attnseg.results.build import COLUMNS, write_rows

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "attnseg"  # the same drawing is the same file
import matplotlib.pyplot as plt  # noqa: E402

BLUE, VERMILION = "#0072b2", "#d55e00"  # of the palette of Okabe and Ito


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--curves", type=json.loads, required=True, help="JSON, as configured")
    parser.add_argument(
        "--evaluations", nargs="+", required=True, metavar="MASKS=FILE", help="metrics.json files"
    )
    provenance.add_flags(parser)
    parser.add_argument("--output", type=Path, required=True, help="results/voc_figure_b8.csv")
    args = parser.parse_args(argv)
    files = dict(pair.split("=", 1) for pair in args.evaluations)
    try:
        measured = {name: json.loads(Path(path).read_text()) for name, path in files.items()}
    except (OSError, ValueError) as error:
        raise UserError(f"{error}; evaluate the masks again") from None
    write_rows(args.output, points(args.curves, measured))
    with write_atomically(args.output.with_suffix(".svg")) as partial:
        draw(args.curves, measured, partial)
    with write_atomically(args.output.with_suffix(".html")) as partial:
        partial.write_text(render.html(args.output), encoding="utf-8")
    used = {name: [path] for name, path in files.items()}
    record = provenance.record(args, used, target=args.output.stem)
    write_json(args.output.with_suffix(".provenance.json"), record)
    print(f"{args.output}: {len(measured)} masks on {len(args.curves)} curves")
    return 0


def points(curves: dict, measured: dict) -> list[dict[str, str]]:
    """Rows of the CSV, in which the method is the curve and the metric its point."""
    rows = []
    for curve, at in curves.items():
        for point in at:
            found = measured[point["masks"]]
            columns = {key: found.get(key) for key in COLUMNS}
            row = {key: "" if value is None else str(value) for key, value in columns.items()}
            rows.append(
                row
                | {
                    "method": curve,
                    "metric": str(point["at"]),
                    "paper": "",
                    "ours": f"{found['miou']:.1f}",
                    "status": "measured",
                    "note": point["masks"],
                }
            )
    return rows


def draw(curves: dict, measured: dict, path: Path) -> None:
    """Draw the curves side by side on one scale; mark the masks that most of them share."""
    on = Counter(point["masks"] for at in curves.values() for point in at)
    default = on.most_common(1)[0][0]
    values = [found["miou"] for found in measured.values()]
    columns = min(4, len(curves))
    rows = -(-len(curves) // columns)
    plot, axes = plt.subplots(
        rows, columns, figsize=(3 * columns, 2.7 * rows), sharey=True, squeeze=False
    )
    for axis, (curve, at) in zip(axes.flat, curves.items(), strict=False):
        heights = [measured[point["masks"]]["miou"] for point in at]
        axis.plot(range(len(at)), heights, "o-", color=BLUE, markersize=4)
        for place, point in enumerate(at):
            if point["masks"] == default:
                axis.plot(place, heights[place], "D", color=VERMILION, markersize=7, zorder=3)
        labels = [str(point["at"]) for point in at]
        turned = 30 if max(map(len, labels)) > 4 else 0
        axis.set_xticks(range(len(at)), labels, rotation=turned, ha="right" if turned else "center")
        axis.set_title(curve, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.grid(alpha=0.3)
        axis.margins(x=0.12)
    axes.flat[0].set_ylim(max(0, min(values) - 3), max(values) + 3)
    for row in axes:
        row[0].set_ylabel("mIoU, %")
    for axis in list(axes.flat)[len(curves) :]:
        axis.axis("off")
    marker = plt.Line2D([], [], color=VERMILION, marker="D", linestyle="", label="the setting used")
    free = min(len(curves), axes.size - 1)  # the last curve's own place where none is left
    axes.flat[free].legend(handles=[marker], loc="best", frameon=False, fontsize=9)
    plot.tight_layout()
    plot.savefig(path, metadata={"Date": None})
    plt.close(plot)


if __name__ == "__main__":
    sys.exit(run(main))
