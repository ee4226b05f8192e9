"""Evaluate a folder of predicted masks against the ground truth."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from attnseg.datasets import Dataset
from attnseg.errors import UserError
from attnseg.results.iou import counts


@dataclass(frozen=True)
class Truth:
    """The ground truth of a split."""

    ids: Sequence[str]
    classes: Sequence[str]  # names of the class numbers, from 0 on
    read: Callable[[str], np.ndarray]  # id -> [H, W] uint8, 255 is ignored


def truth_of(dataset: Dataset, root: Path, split: str) -> Truth:
    """The ground truth of a split of a data set."""
    return Truth(
        dataset.read_split(root, split),
        dataset.class_names,
        lambda image_id: dataset.read_truth(root, image_id, split=split),
    )


def read_prediction(path: str | os.PathLike) -> np.ndarray:
    """Read a mask of class numbers: [H, W] uint8.

    Raises:
        UserError: if the file is missing, damaged or not a P or L image.
    """
    try:
        with Image.open(path) as image:
            if image.mode not in ("P", "L"):
                raise UserError(f"{path}: mode {image.mode}; a mask is a PNG of class ids (P or L)")
            return np.asarray(image)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: masks of the whole split are needed, <id>.png each"
        ) from None
    except (OSError, SyntaxError) as error:
        raise UserError(f"{path} is damaged ({error}): delete it and make it again") from error


def evaluate_masks(
    folder: str | os.PathLike, truth: Truth
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count tp, fp, fn [N, C] int64 of `folder`/<id>.png, in the order of the ground truth's ids.

    The ground truth's 255 is ignored. A prediction must have a class at every pixel; the copy of
    pseudo masks with 255 that trains segmentors is not what the papers evaluate.
    """
    if not truth.ids:
        raise UserError("the split lists no images")
    folder = Path(folder)
    found = []
    for image_id in tqdm(truth.ids, desc="evaluate", unit="mask", disable=None):
        path = folder / f"{image_id}.png"
        prediction, expected = read_prediction(path), truth.read(image_id)
        if prediction.shape != expected.shape:
            sizes = [f"{s[1]}x{s[0]}" for s in (prediction.shape, expected.shape)]
            raise UserError(
                f"{path} is {sizes[0]} pixels, the ground truth {sizes[1]}: make it again"
            )
        try:
            found.append(counts(prediction, expected, len(truth.classes)))
        except ValueError as error:
            raise UserError(f"{path}: {error}; evaluate complete masks of these classes") from error
    tp, fp, fn = (np.stack(arrays) for arrays in zip(*found, strict=True))
    if not (tp + fn).any():
        raise UserError("the ground truth of the split has no labelled pixel; check the masks")
    return tp, fp, fn
