"""Pseudo masks and reliability maps from the stored attention of generated images (attn2mask)."""

import numpy as np
import torch

from attnseg.core.crf import crf_probabilities
from attnseg.core.reliability import crf_input, normalised, reliability, with_beta_background
from attnseg.core.scores import upsample
from attnseg.core.threshold import otsu_labels, threshold_labels
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
    scores = with_beta_background(grown, options.beta).numpy()
    reliable = reliability(scores, options.reliable)
    if options.post == "threshold":
        return threshold_labels(grown.numpy(), options.theta), reliable
    if options.post == "otsu":
        return otsu_labels(grown.numpy()), reliable
    if options.post == "crf":
        scores = crf_probabilities(image, crf_input(scores), options.crf)
    return scores.argmax(0).astype(np.uint8), reliable


def dataset_labels(labels: np.ndarray, numbers: list[int], background: int) -> np.ndarray:
    """Renumber labels of `synthetic_mask` for a data set: [H, W] uint8.

    `numbers`: the class number of each map. `background`: 0, or 255 (ignored) for a data set without
    a background class, such as Cityscapes.
    """
    return np.array([background, *numbers], np.uint8)[labels]
