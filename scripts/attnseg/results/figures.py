"""Figures B.8 and D.9: their rows, their drawings, and the files that a figure is."""

import argparse
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import matplotlib
import numpy as np

from attnseg.io import provenance
from attnseg.io.files import write_atomically, write_json
from attnseg.results import pages
from attnseg.results.build import COLUMNS, Line, write_rows
from attnseg.results.notes import Note
from attnseg.results.similarity import regression

matplotlib.use("Agg")
matplotlib.rcParams["svg.hashsalt"] = "attnseg"  # the same drawing is the same file
import matplotlib.pyplot as plt  # noqa: E402

BLUE, VERMILION, GREY = "#0072b2", "#d55e00", "#999999"  # of the palette of Okabe and Ito


def write_figure(
    args: argparse.Namespace,
    rows: list[Line],
    draw: Callable[[Path], None],
    used: Mapping[str, Sequence[str | Path]],
) -> None:
    """The rows as a CSV, args.output, and beside it the drawing (.svg), a page (.html) and the
    provenance; `used` as `provenance.record` takes it."""
    write_rows(args.output, rows)
    with write_atomically(args.output.with_suffix(".svg")) as partial:
        draw(partial)
    record = provenance.record(args, used, target=args.output.stem)
    write_json(args.output.with_suffix(".provenance.json"), record)
    pages.write_page(args.output)


def line_of(metrics: Mapping[str, Any]) -> Line:
    """A line of the CSV with what a metrics.json says of its data and model, and nothing else."""
    columns = ("dataset", "split", "n_images", "model", "seed")
    said = {key: "" if metrics.get(key) is None else str(metrics[key]) for key in columns}
    return cast(Line, dict.fromkeys(COLUMNS, "") | said)


def curve_rows(curves: dict, measured: dict) -> list[Line]:
    """The lines of the CSV: method is the curve, metric the point on it."""
    rows: list[Line] = []
    for curve, at in curves.items():
        for point in at:
            found = measured[point["masks"]]
            row = line_of(found)
            row |= {"method": curve, "metric": str(point["at"]), "status": "measured"}
            row |= {"ours": f"{found['miou']:.1f}", "note": Note(detail=[point["masks"]])}
            rows.append(row)
    return rows


def draw_curves(curves: dict, measured: dict, path: Path) -> None:
    """The curves side by side with one scale of mean IoU; the masks on most of them are marked."""
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


def similarity_rows(
    x: np.ndarray,
    y: np.ndarray,
    groups: tuple[np.ndarray, np.ndarray],
    about: dict,
    published: dict,
) -> list[Line]:
    """The lines of the CSV: r and p of the groups beside the paper's, of the images, the groups."""
    _, _, r, p = regression(*groups)
    _, _, r_images, p_images = regression(x, y)
    count = len(groups[0])
    cells = [
        ("Ours", "r", f"{r:.2f}", f"of {count} groups of equal count"),
        ("Ours", "p", f"{p:.2g}", f"of {count} groups of equal count"),
        ("Ours", "r of images", f"{r_images:.2f}", ""),
        ("Ours", "p of images", f"{p_images:.2g}", ""),
    ]
    for number, (similarity, quality) in enumerate(zip(*groups, strict=True), 1):
        cells.append((f"Group {number}", "similarity", f"{similarity:.3f}", "cosine"))
        cells.append((f"Group {number}", "mIoU", f"{quality:.1f}", "of an image, on average"))
    rows: list[Line] = []
    for method, metric, ours, note in cells:
        paper, remark = published.get(metric, ("", "")) if method == "Ours" else ("", "")
        row = line_of(about)
        row |= {"method": method, "metric": metric, "paper": paper, "ours": ours}
        row |= {"status": "measured", "note": Note(detail=[note] if note else [], paper=remark)}
        rows.append(row)
    return rows


def draw_similarity(
    x: np.ndarray, y: np.ndarray, groups: tuple[np.ndarray, np.ndarray], path: Path
) -> None:
    """Images as dots, groups as squares, and the line through the groups."""
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
