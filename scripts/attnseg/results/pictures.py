"""Figures of photos, attention maps, pseudo masks and ground truth (Text2Mask: 2, 4, 6 and B.7)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from attnseg.core.geometry import Fit, to_photo
from attnseg.core.scores import with_background
from attnseg.datasets import Dataset
from attnseg.datasets.images import read_mask
from attnseg.io.files import write_atomically

if TYPE_CHECKING:
    from attnseg.text2mask.stages import Stages

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HEADS = ("photo", "Cross", "SelfCross", "pseudo mask", "ground truth")
UNCERTAIN = 0.05  # lead in score below which a pixel is uncertain (Section 5.1)
# Okabe and Ito's colour-blind-safe palette, assigned to the classes of a photo in turn
COLOURS = np.array(
    [
        (230, 159, 0), (86, 180, 233), (0, 158, 115), (204, 121, 167), (240, 228, 66),
        (0, 114, 178), (213, 94, 0),
    ],
    np.uint8,
)  # fmt: skip
BLACK, WHITE, GREY = (0, 0, 0), (255, 255, 255), (128, 128, 128)


def uncertain(maps: torch.Tensor, width: float = UNCERTAIN, background: bool = True) -> np.ndarray:
    """Pixels whose best score leads the second best by less than `width`: [H, W] bool.

    `maps`: [K, H, W] in [0, 1], scores of the classes. `background`: include the background's score.
    """
    scores = with_background(maps) if background else maps
    if len(scores) == 1:
        return np.zeros(maps.shape[1:], bool)
    first, second = scores.topk(2, dim=0).values
    return ((first - second) < width).numpy()


def coloured(mask: np.ndarray, numbers: list[int]) -> np.ndarray:
    """Colour the classes `numbers` of a mask, 0 black, all others grey: [H, W, 3] uint8."""
    palette = np.full((256, 3), GREY, np.uint8)
    palette[0] = BLACK
    for place, number in enumerate(numbers):
        palette[number] = COLOURS[place % len(COLOURS)]
    return palette[mask]


def figure(
    dataset: Dataset,
    root: Path,
    items: list[tuple[dict, dict]],
    masks: Path,
    path: Path,
    names: list[str] | None = None,
    split: str | None = None,
    truth: bool = True,
    stored: bool = False,
    about: str | None = None,
) -> None:
    """Draw one row per photo and write the figure to `path` (PNG or SVG).

    `items`: manifest entries with their maps, as `attnseg.io.shards.read_shards` yields them. `names`:
    labels of the rows, by default the photos' ids. Maps are shown as their maximum over classes;
    uncertain pixels of the pseudo mask are white. `truth`: whether there is a ground truth to show. `stored`: show
    masks as they are stored, uncertain pixels as well. `about`: what the report says below the picture.
    """
    rows, heads = len(items), HEADS if truth else HEADS[:-1]
    plot, axes = plt.subplots(rows, len(heads), figsize=(11, 1.9 * rows), squeeze=False)
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=11)
    for line, (row, (item, kinds)) in enumerate(zip(axes, items, strict=True)):
        photo = dataset.read_photo(root, item["id"], split)
        predicted = read_mask(masks / f"{item['id']}.png")
        expected = dataset.read_truth(root, item["id"], split=split) if truth else predicted
        fit = Fit(tuple(item["content"]), tuple(item["padded"]))
        maps = {kind: to_photo(kinds[kind].float(), fit, photo.shape[:2]) for kind in kinds}
        row[0].imshow(photo)
        for axis, kind in zip(row[1:3], ("cross", "selfcross"), strict=True):
            axis.imshow(maps[kind].amax(0).numpy(), cmap="viridis", vmin=0, vmax=1)
        numbers = [
            n
            for n in np.union1d(np.unique(expected), np.unique(predicted))
            if n not in (dataset.unclassed, dataset.ignored)
        ]
        shown = coloured(predicted, numbers)
        if not stored:
            shown[uncertain(maps["selfcross"], background=dataset.background)] = WHITE
        for axis, image in zip(row[3:], (shown, coloured(expected, numbers)), strict=False):
            axis.imshow(image, interpolation="nearest")
        patches = [
            Patch(facecolor=COLOURS[place % len(COLOURS)] / 255, label=dataset.class_names[number])
            for place, number in enumerate(numbers)
        ]
        if not stored:
            patches.append(Patch(facecolor="white", edgecolor="black", label="uncertain"))
        row[-1].legend(
            handles=patches,
            loc="center left",
            bbox_to_anchor=(1.02, 0.5),
            fontsize=9,
            frameon=False,
        )
        # COCO's ids would not fit the height of a row
        row[0].set_ylabel(names[line] if names else item["id"][-12:], fontsize=8)
    save(plot, axes, path, about)


def readings_figure(
    dataset: Dataset,
    root: Path,
    ids: Sequence[str],
    masks: Mapping[str, Path],
    path: Path,
    split: str | None = None,
) -> None:
    """Draw one row per photo: photo, the masks of each folder under its name, and the ground truth."""
    heads = ("photo", *masks, "ground truth")
    plot, axes = plt.subplots(
        len(ids), len(heads), figsize=(1.9 * len(heads), 1.9 * len(ids) + 0.4), squeeze=False
    )
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head.replace(", ", "\n"), fontsize=9)
    for row, name in zip(axes, ids, strict=True):
        found = [read_mask(folder / f"{name}.png") for folder in masks.values()]
        shown = [*found, dataset.read_truth(root, name, split=split)]
        ignored = (dataset.unclassed, dataset.ignored)
        numbers = [
            n for n in np.unique(np.concatenate([m.ravel() for m in shown])) if n not in ignored
        ]
        row[0].imshow(dataset.read_photo(root, name, split))
        for axis, mask in zip(row[1:], shown, strict=True):
            axis.imshow(coloured(mask, numbers), interpolation="nearest")
    save(plot, axes, path)


def save(plot: Figure, axes: np.ndarray, path: Path, about: str | None = None) -> None:
    """Without ticks, closed afterwards. `about`: the file's own description."""
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    plot.tight_layout()
    with write_atomically(path) as partial:
        plot.savefig(partial, dpi=110, metadata={"Description": about} if about else None)
    plt.close(plot)


def attention_figure(photos: list["Stages"], path: Path) -> None:
    """Draw one row per class of each photo: photo, clusters, and the class's maps (Figure 2)."""
    rows = [(photo, k) for photo in photos for k in range(len(photo.classes))]
    heads = ("photo", "clusters", *photos[0].maps)
    plot, axes = plt.subplots(
        len(rows), len(heads), figsize=(2 * len(heads), 1.9 * len(rows)), squeeze=False
    )
    for axis, head in zip(axes[0], heads, strict=True):
        axis.set_title(head, fontsize=11)
    for row, (photo, k) in zip(axes, rows, strict=True):
        row[0].imshow(photo.photo)
        row[0].set_ylabel(photo.classes[k], fontsize=10)
        row[1].imshow(COLOURS[photo.clusters % len(COLOURS)], interpolation="nearest")
        for axis, maps in zip(row[2:], photo.maps.values(), strict=True):
            axis.imshow(maps[k], cmap="viridis", vmin=0, vmax=1)
    save(plot, axes, path)
