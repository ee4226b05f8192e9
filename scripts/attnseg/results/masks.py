"""A folder of predicted masks against the ground truth."""

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
    """The ground truth of a split: ids in order, what its numbers mean, from 0 on, and a reader."""

    ids: Sequence[str]
    classes: Sequence[str]
    read: Callable[[str], np.ndarray]  # id -> HW uint8, 255 is ignored


def truth_of(dataset: Dataset, root: Path, split: str) -> Truth:
    """The ids, classes and true masks of a split."""
    return Truth(
        dataset.read_split(root, split),
        dataset.class_names,
        lambda image_id: dataset.read_truth(root, image_id, split=split),
    )


def read_prediction(path: str | os.PathLike) -> np.ndarray:
    """A mask as class ids, HW uint8. Raises UserError for a missing, damaged or coloured file."""
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
    """tp, fp, fn [N, C] int64 of `folder`/<id>.png against the truth, in the order of its ids.

    The truth's 255 is ignored; a prediction must hold a class at every pixel (the copy of the
    masks that trains a segmentor, with its 255, is not what the papers evaluate).
    """
    if not truth.ids:
        raise UserError("the split lists no images")
    found = []
    for image_id in tqdm(truth.ids, desc="evaluate", unit="mask", disable=None):
        path = Path(folder) / f"{image_id}.png"
        prediction, expected = read_prediction(path), truth.read(image_id)
        if prediction.shape != expected.shape:
            sizes = [f"{s[1]}x{s[0]}" for s in (prediction.shape, expected.shape)]
            raise UserError(f"{path} is {sizes[0]} pixels, the true mask {sizes[1]}: make it again")
        try:
            found.append(counts(prediction, expected, len(truth.classes)))
        except ValueError as error:
            raise UserError(f"{path}: {error}; evaluate complete masks of these classes") from error
    tp, fp, fn = (np.stack(arrays) for arrays in zip(*found, strict=True))
    if not (tp + fn).any():
        raise UserError("the true masks of the split hold no labelled pixel")
    return tp, fp, fn
