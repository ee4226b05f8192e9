"""Pseudo masks and reliability maps from the stored attention of generated images (attn2mask)."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from attnseg.core.crf import crf_probabilities
from attnseg.core.reliability import crf_input, normalised, reliability, with_beta_background
from attnseg.core.scores import upsample
from attnseg.core.threshold import otsu_labels, threshold_labels
from attnseg.datasets import Dataset
from attnseg.datasets.images import read_image, read_mask
from attnseg.io.files import write_atomically
from attnseg.settings import LabellingJob


def synthetic_mask(
    image: np.ndarray, maps: torch.Tensor, options: LabellingJob
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the pseudo mask and reliability map of a generated image.

    Args:
        image: [H, W, 3] uint8, RGB.
        maps: [K, h, w], not normalised. They are upsampled before normalisation, so that each map
            reaches 0 and 1 at the image's size.

    Returns:
        Labels [H, W] uint8, 0 for the background and k + 1 for map k; and reliability [H, W] bool.
    """
    grown = normalised(upsample(maps.float(), image.shape[:2]), options.normalise)
    if options.normalise == "minmax":  # what is constant but for the rounding of `upsample`
        grown[maps.amax((1, 2)) == maps.amin((1, 2))] = 0
    scores = with_beta_background(grown, options.beta).numpy()
    reliable = reliability(scores, options.reliable)
    if options.post == "threshold":
        return threshold_labels(grown.numpy(), options.theta), reliable
    if options.post == "otsu":
        return otsu_labels(grown.numpy()), reliable
    if options.post == "crf":
        scores = crf_probabilities(image, crf_input(scores, options.crf.clip), options.crf)
    return scores.argmax(0).astype(np.uint8), reliable


def dataset_labels(labels: np.ndarray, numbers: list[int], background: int) -> np.ndarray:
    """Renumber labels of `synthetic_mask` for a data set: [H, W] uint8.

    `numbers`: the class number of each map. `background`: 0, or 255 (ignored) for a data set without
    a background class, such as Cityscapes.
    """
    return np.array([background, *numbers], np.uint8)[labels]


def write_labels(
    dataset: Dataset,
    images: Path,
    output: Path,
    options: LabellingJob,
    keep_skipped: bool,
    job: tuple[dict, dict[str, np.ndarray]],
) -> dict:
    """Write one image's mask and reliability map below `output`; returns its manifest entry.

    `job`: its entry in the shard's manifest, and its maps. Those that are there already are kept. A
    skipped image has neither, or with `keep_skipped` a mask without classes.
    """
    item, kinds = job
    entry = {"id": item["id"], "image": item["image"], "classes": item["classes"], "skipped": None}
    mask_path = output / f"{item['id']}.png"
    reliability_path = output / "reliability" / mask_path.name
    numbers = [dataset.number(name) for name in item["classes"]]
    if item["skipped"] or "cross" not in kinds:
        entry["skipped"] = (item["skipped"] or ["no attention"])[0]
        if keep_skipped:
            size = item["image_size"]
            dataset.write_mask(mask_path, np.full(size, dataset.unclassed, np.uint8))
            save_reliability(reliability_path, np.zeros(size, bool))
        return entry
    if not (mask_path.exists() and reliability_path.exists()):
        maps = torch.from_numpy(kinds["cross"])
        labels, sure = synthetic_mask(read_image(images / item["image"]), maps, options)
        dataset.write_mask(mask_path, dataset_labels(labels, numbers, dataset.unclassed))
        save_reliability(reliability_path, sure)
    return entry | {"reliable": round(float(np.mean(read_mask(reliability_path) > 0)), 4)}


def save_reliability(path: Path, sure: np.ndarray) -> None:
    """A grey PNG of a map [H, W] bool: 255 where the mask is to be trusted."""
    with write_atomically(path) as partial:
        Image.fromarray(np.where(sure, 255, 0).astype(np.uint8)).save(partial)
