"""Photo, Cross, SelfCross, pseudo mask and truth side by side (Text2Mask, Figures 2 and 4)."""

from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib.patches import Patch

from attnseg.diffusion.geometry import Fit, to_photo
from attnseg.files import write_atomically

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

HEADS = ("photo", "Cross", "SelfCross", "pseudo mask", "true mask")


def figure(dataset, root: Path, items: list[tuple[dict, dict]], masks: Path, path: Path) -> None:
    """One row a photo, written to `path` (PNG or SVG).

    `dataset` is a module of ``attnseg.datasets``; `items` are manifest entries with their maps, as
    ``attnseg.shards.read_shards`` yields them. A map shown is the strongest over the classes.
    """
    rows = len(items)
    plot, axes = plt.subplots(rows, 5, figsize=(11, 1.9 * rows), squeeze=False)
    for axis, head in zip(axes[0], HEADS, strict=True):
        axis.set_title(head, fontsize=11)
    for row, (item, kinds) in zip(axes, items, strict=True):
        photo = dataset.read_image(dataset.image_path(root, item["id"]))
        truth = dataset.read_mask(dataset.mask_path(root, item["id"]))
        predicted = dataset.read_mask(masks / f"{item['id']}.png")
        fit = Fit(tuple(item["content"]), tuple(item["padded"]))
        row[0].imshow(photo)
        for axis, kind in zip(row[1:3], ("cross", "selfcross"), strict=True):
            strongest = to_photo(kinds[kind].float(), fit, photo.shape[:2]).amax(0)
            axis.imshow(strongest.numpy(), cmap="viridis", vmin=0, vmax=1)
        for axis, mask in zip(row[3:], (predicted, truth), strict=True):
            axis.imshow(dataset.PALETTE[mask], interpolation="nearest")
        numbers = [n for n in np.union1d(np.unique(truth), np.unique(predicted)) if 0 < n < 255]
        patches = [
            Patch(facecolor=dataset.PALETTE[n] / 255, label=dataset.CLASSES[n - 1]) for n in numbers
        ]
        row[4].legend(
            handles=patches,
            loc="center left",
            bbox_to_anchor=(1.02, 0.5),
            fontsize=9,
            frameon=False,
        )
        row[0].set_ylabel(item["id"], fontsize=8)
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    plot.tight_layout()
    with write_atomically(path) as partial:
        plot.savefig(partial, dpi=110)
    plt.close(plot)


def chosen(
    items: list[tuple[dict, dict]], count: int
) -> list[tuple[dict, dict[str, torch.Tensor]]]:
    """`count` items, evenly spread over those with the most classes: not the best, not the worst."""
    several = [pair for pair in items if len(pair[0]["classes"]) > 1] or items
    places = np.linspace(0, len(several) - 1, min(count, len(several))).round().astype(int)
    return [several[place] for place in places]
