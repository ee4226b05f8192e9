"""Show subject, scene and each method's prediction side by side (Text2Mask, Figure 5)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np

from attnseg.datasets.images import read_image
from attnseg.datasets.mug19 import SPLITS, Mug19, Triplet, read_mug19
from attnseg.evaluations import MUG19_METHODS
from attnseg.io.files import write_atomically
from attnseg.personalised.assignment import NONE, together
from attnseg.personalised.personal import personal_description
from attnseg.personalised.predictions import read_predictions, read_rows

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

PHOTOS = 2  # of the subject
TOKEN = "<new1>"


def chosen_triplets(data: Mug19, count: int) -> list[Triplet]:
    """Select about `count` triplets, equally many per special split, evenly spaced in each."""
    picked: dict[str, Triplet] = {}
    for split in SPLITS[1:]:
        those = [triplet for triplet in data.triplets if split in triplet.splits]
        share = min(max(1, round(count / (len(SPLITS) - 1))), len(those))
        places = (np.arange(share) + 0.5) * len(those) / max(1, share)
        picked |= {those[int(place)].id: those[int(place)] for place in places}
    return list(picked.values())


def prediction(
    data: Mug19, triplet: Triplet, masks: np.ndarray, rows: dict[str, np.ndarray]
) -> np.ndarray:
    """The segment of a triplet when all triplets of its view are assigned jointly: [H, W] bool.

    `masks`: [S, H, W] bool; `rows`: triplet id -> its correlation with each segment, [S].
    """
    group = data.groups()[triplet.scene, triplet.view, triplet.variant]
    group = [other for other in group if other.id in rows]
    found = together(np.stack([rows[other.id] for other in group]))[group.index(triplet)]
    return np.zeros(masks.shape[1:], bool) if found == NONE else masks[found]


def highlighted(photo: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Fade a photo outside the mask: [H, W, 3] uint8."""
    faded = 0.25 * photo.mean(2, keepdims=True) + 0.7 * 255
    return np.where(mask[..., None], photo, faded).astype(np.uint8)


def draw(root: Path, predictions: Path, count: int, path: Path) -> None:
    """Draw about `count` triplets, one per row, and write the figure to `path` (PNG or SVG)."""
    data = read_mug19(root)
    manifest, segments = read_predictions(predictions)
    threshold = manifest["parameters"]["foreground_threshold"]
    methods = {
        label: name
        for label, name in MUG19_METHODS.items()
        if name in manifest["methods"] and "not_run" not in manifest["methods"][name]
    }
    rows = {name: read_rows(predictions / f"{name}.safetensors") for name in methods.values()}
    picked = chosen_triplets(data, count)
    heads = [*["subject"] * PHOTOS, "scene", *methods, "ground truth"]
    plot, axes = plt.subplots(
        len(picked), len(heads), figsize=(1.5 * len(heads), 1.75 * len(picked)), squeeze=False
    )
    for line, triplet in zip(axes, picked, strict=True):
        scene = data.read_view(triplet.scene, triplet.view)
        truth = data.read_masks(triplet.scene, triplet.view, scene.shape[:2])
        own = segments[triplet.scene, triplet.view].masks(threshold)
        photos = [read_image(p) for p in data.photos(triplet.subject)[:PHOTOS]]
        shown = [*photos, *[np.full_like(scene, 255)] * (PHOTOS - len(photos)), scene]
        for name in methods.values():
            masks = truth if manifest["methods"][name].get("true_masks") else own
            shown.append(highlighted(scene, prediction(data, triplet, masks, rows[name])))
        shown.append(highlighted(scene, truth[triplet.instance - 1]))
        fill(line, shown)
        word = data.class_of(triplet.subject)
        query = personal_description(triplet.description, word, TOKEN)
        kind = next(split for split in reversed(SPLITS) if split in triplet.splits)
        line[0].set_title(f"{query}   ({kind.replace('_', ' ')})", fontsize=9, loc="left")
    for axis, head in zip(axes[-1], heads, strict=True):
        axis.set_xlabel(head.replace(" [", "\n["), fontsize=9)
    # not tight_layout, which would widen the first column to fit the queries above it
    edge = 0.3 / len(picked)
    plot.subplots_adjust(0.01, 0.8 * edge, 0.99, 1 - 0.5 * edge, wspace=0.06, hspace=0.15)
    with write_atomically(path) as partial:
        plot.savefig(partial, dpi=110)
    plt.close(plot)


def fill(axes: Sequence, pictures: Sequence[np.ndarray]) -> None:
    """Show one picture per axis, without ticks."""
    for axis, picture in zip(axes, pictures, strict=True):
        axis.imshow(picture)
        axis.set_xticks([])
        axis.set_yticks([])
