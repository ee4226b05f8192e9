"""Refine stored attention maps to masks at the photo's size (Text2Mask, Section 3.2)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from attnseg.core.crf import crf_probabilities
from attnseg.core.geometry import Fit, to_photo
from attnseg.core.scores import with_background
from attnseg.datasets import Dataset
from attnseg.datasets.images import read_mask
from attnseg.errors import UserError
from attnseg.io.files import is_same
from attnseg.settings import PROFILES, RefinementJob


def source_maps(kinds: dict[str, torch.Tensor], source: str) -> torch.Tensor:
    """Maps of a source, [K, h, w] float32; "a+b" is the mean of two kinds (Table 5)."""
    return torch.stack([kinds[kind].float() for kind in source.split("+")]).mean(0)


def refine(
    image: np.ndarray,
    maps: torch.Tensor,
    fit: Fit,
    options: RefinementJob,
    background: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Refine attention maps to labels at the photo's size.

    Args:
        image: [H, W, 3] uint8, RGB.
        maps: [K, h, w] in [0, 1].
        fit: the transform of the photo to the model's input.
        options: background score, CRF and profile.
        background: False for data sets without a background class.

    Returns:
        Labels [H, W] uint8: 0 is the background and k the k-th map, counted from 1; without a
        background, maps are counted from 0. And their confidence [H, W] float32 in [0, 1]: the
        CRF's probability, or 1 without a CRF.
    """
    scores = refined_scores(image, maps, fit, options, background)
    certain = np.ones(image.shape[:2], np.float32) if options.crf is None else scores.max(0)
    return scores.argmax(0).astype(np.uint8), certain


def refined_scores(
    image: np.ndarray,
    maps: torch.Tensor,
    fit: Fit,
    options: RefinementJob,
    background: bool = True,
    lattices: dict | None = None,
) -> np.ndarray:
    """Scores of the background, if there is one, and the classes: [K + 1, H, W] float32.

    lattices: of `crf_probabilities`.
    """
    size, profile = image.shape[:2], PROFILES[options.profile]

    def scored(maps: torch.Tensor) -> torch.Tensor:
        if not background:
            return maps
        return with_background(maps, options.background.threshold, options.background.power)

    if not profile.labels_at_grid:
        scores = scored(to_photo(maps, fit, size))
    elif options.crf is not None:
        scores = to_photo(scored(maps), fit, size)
    else:
        scores = scored(maps)
        labels = scores.argmax(0, keepdim=True)
        indicator = torch.zeros_like(scores).scatter_(0, labels, 1.0)
        # nearest neighbour, by pixel centres
        grown = torch.nn.functional.interpolate(indicator[None], scale_factor=16)[0]
        scores = to_photo(grown, fit, size)
    if options.crf is None:
        return scores.numpy()
    wrapped = profile.wrapped_crf_image
    return crf_probabilities(image, scores.numpy(), options.crf, wrapped, lattices)


def write_masks(
    dataset: Dataset,
    root: Path,
    split: str | None,
    folders: Sequence[Path],
    options: RefinementJob,
    job: tuple[dict, dict[str, np.ndarray]],
) -> dict:
    """Write one photo's mask in the first of `folders`, and in the second, where there is one, the
    copy that trains a segmentor; returns its manifest entry.

    `job`: its entry in the shard's manifest, and its maps. Masks that are there already are kept.
    """
    item, kinds = job
    paths = [folder / f"{item['id']}.png" for folder in folders]
    entry = {"id": item["id"], "ignored": 0.0}
    size = tuple(item["image_size"])
    if not item["classes"]:
        for path in paths:
            dataset.write_mask(path, np.full(size, dataset.unclassed, np.uint8))
        return entry
    if all(path.exists() for path in paths):
        for path in paths[1:]:
            entry["ignored"] = float((read_mask(path) == dataset.ignored).mean())
        return entry
    photo = dataset.image_path(root, item["id"], split)
    if "photo" in item and not is_same(
        photo, item["photo"]
    ):  # absent from earlier releases' shards
        raise UserError(
            f"{photo}: not the photo that its attention was made from: restore it, or make that again "
            "(`--forcerun extract_attention`)"
        )
    image = dataset.read_photo(root, item["id"], split)
    if image.shape[:2] != size:
        raise UserError(
            f"{item['id']}: the photo is {image.shape[1]}x{image.shape[0]} "
            f"and its attention was made from {size[1]}x{size[0]}: run extract_attention again"
        )
    tensors = {kind: torch.from_numpy(maps) for kind, maps in kinds.items()}
    try:
        maps = source_maps(tensors, options.source)
    except KeyError as missing:
        raise UserError(
            f"{item['id']}: the shards hold no {missing} maps: set `cbp: true` in this variant"
        ) from None
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    labels, confidence = refine(image, maps, fit, options, dataset.background)
    numbers = [0] * dataset.background + [dataset.number(name) for name in item["classes"]]
    labels = np.array(numbers, np.uint8)[labels]
    dataset.write_mask(paths[0], labels)
    for path in paths[1:]:
        unsure = confidence < options.confidence
        dataset.write_mask(path, np.where(unsure, dataset.ignored, labels))
        entry["ignored"] = float(unsure.mean())
    return entry
