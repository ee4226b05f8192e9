"""Figures of generated images, their attention and labels (attn2mask, Figures 4, 5 and 6)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from attnseg.core.reliability import normalised
from attnseg.core.scores import upsample
from attnseg.datasets.images import read_image, read_mask
from attnseg.io.files import write_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

# Okabe and Ito's colour-blind-safe palette; black for the background
COLOURS = ListedColormap(
    ["#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7"]
)


def words(item: dict) -> str:
    """An item's prompt in lines that fit above a picture."""
    lines: list[str] = []
    line = ""
    for word in item["prompt"].split():
        if len(line) + len(word) > 30:
            lines, line = [*lines, line], ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])


def local_labels(mask: np.ndarray) -> np.ndarray:
    """Renumber classes by colour: 0 for the background and 255, then the classes in turn."""
    numbers = [n for n in np.unique(mask) if n not in (0, 255)]
    shown = np.zeros(mask.shape, int)
    for place, number in enumerate(numbers):
        shown[mask == number] = 1 + place % (COLOURS.N - 1)
    return shown


def save(plot: Figure, axes: np.ndarray, path: Path) -> None:
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
        if not axis.has_data():
            axis.set_axis_off()
    plot.tight_layout(h_pad=2)
    with write_atomically(path) as partial:
        plot.savefig(partial, dpi=110)
    plt.close(plot)


def attention_figure(
    items: Sequence[tuple[dict, torch.Tensor]], images: Path, masks: Path, path: Path
) -> None:
    """Draw one row per sample: image, attention map of each class, mask, reliability map.

    `items`: manifest entries with their maps [K, h, w]; `images`, `masks`: folders.
    """
    most = max(len(item["classes"]) for item, _ in items)
    plot, axes = plt.subplots(
        len(items), most + 3, figsize=(1.9 * (most + 3), 2.2 * len(items)), squeeze=False
    )
    for row, (item, maps) in zip(axes, items, strict=True):
        image = read_image(images / item["image"])
        row[0].imshow(image)
        row[0].set_title(words(item), fontsize=8)
        grown = normalised(upsample(maps.float(), image.shape[:2]), "minmax")
        for axis, name, one in zip(row[1:], item["classes"], grown, strict=False):
            axis.imshow(one.numpy(), cmap="viridis", vmin=0, vmax=1)
            axis.set_title(name, fontsize=9)
        mask = local_labels(read_mask(masks / f"{item['id']}.png"))
        row[-2].imshow(mask, cmap=COLOURS, vmin=0, vmax=COLOURS.N - 1, interpolation="nearest")
        row[-2].set_title("mask", fontsize=9)
        reliable = read_mask(masks / "reliability" / f"{item['id']}.png")
        row[-1].imshow(reliable, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        row[-1].set_title("reliable", fontsize=9)
    save(plot, axes, path)


def adaptation_figure(
    targets: Sequence[Path],
    before: Sequence[tuple[Path, torch.Tensor]],
    after: Sequence[tuple[Path, torch.Tensor]],
    path: Path,
) -> None:
    """Draw photos of the target domain, and images with their attention, without and with LoRA.

    `before`, `after`: images and their maps [K, h, w], of which the maximum over classes is shown.
    """
    count = max(len(targets), len(before), len(after))
    plot, axes = plt.subplots(5, count, figsize=(1.9 * count, 10), squeeze=False)
    for axis, file in zip(axes[0], targets, strict=False):
        axis.imshow(read_image(file))
    for rows, pairs in ((axes[1:3], before), (axes[3:5], after)):
        for image_axis, map_axis, (file, maps) in zip(*rows, pairs, strict=False):
            image = read_image(file)
            image_axis.imshow(image)
            grown = normalised(upsample(maps.float(), image.shape[:2]), "minmax").amax(0)
            map_axis.imshow(grown.numpy(), cmap="viridis", vmin=0, vmax=1)
    heads = ("target photos", "without LoRA", "its attention", "with LoRA", "its attention")
    for row, head in zip(axes, heads, strict=True):
        row[0].set_ylabel(head, fontsize=11)
    save(plot, axes, path)
