"""From stored scores to labels, in processes of their own; keep torch out of its imports."""

from pathlib import Path

import cv2
import numpy as np
from safetensors import safe_open

from attnseg.core.crf import crf_probabilities
from attnseg.datasets.images import read_image
from attnseg.settings import PROFILES, TestJob


def refined_item(
    job: tuple[Path, dict, Path], test: TestJob, turned: bool
) -> tuple[str, np.ndarray]:
    """(id, class numbers) of (shard, item, photo), as `refined_labels`."""
    shard, item, photo = job
    return item["id"], refined_labels(shard, item, photo, test, turned)


def refined_labels(
    shard: Path, item: dict, photo: Path, test: TestJob, turned: bool = False
) -> np.ndarray:
    """Class numbers [H, W] uint8 of a photo whose scores are in a shard of `write_scores`.

    item: its entry in the shard's manifest. turned: by its EXIF orientation.
    """
    with safe_open(shard, "numpy") as file:
        grids = file.get_tensor(item["id"]).astype(np.float32)  # [K, h, w]
    height, width = item["size"]
    # bilinear by the centres of pixels, as torch's interpolate
    scores = np.stack([cv2.resize(grid, (width, height)) for grid in grids])
    if test.crf is not None:
        scores = np.exp(scores - scores.max(0))
        scores /= scores.sum(0)
        wrapped = PROFILES[test.profile].wrapped_crf_image
        scores = crf_probabilities(read_image(photo, turned), scores, test.crf, wrapped)
    return np.array(item["classes"], np.uint8)[scores.argmax(0)]
