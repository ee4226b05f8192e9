"""From the stored attention of a generated image to its mask and reliability map (attn2mask)."""

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
    """Labels [H, W] uint8, 0 the background and k + 1 map k, and reliability [H, W] bool.

    `image`: [H, W, 3] uint8. `maps`: [K, h, w] as stored. They are upsampled first, so that each
    reaches 0 and 1 at the image's size.
    """
    grown = normalised(upsample(maps.float(), image.shape[:2]), options.normalise)
    scores = with_beta_background(grown, options.beta).numpy()
    sure = reliability(scores, options.reliable)
    if options.post == "threshold":
        return threshold_labels(grown.numpy(), options.theta), sure
    if options.post == "otsu":
        return otsu_labels(grown.numpy()), sure
    if options.post == "crf":
        scores = crf_probabilities(image, crf_input(scores), options.crf)
    return scores.argmax(0).astype(np.uint8), sure


def dataset_labels(labels: np.ndarray, numbers: list[int], background: int) -> np.ndarray:
    """Labels of `synthetic_mask` in a data set's numbers: [H, W] uint8.

    `numbers`: a map's class number there. `background`: 0, or 255 (ignored) for a data set without
    a background class (Cityscapes).
    """
    return np.array([background, *numbers], np.uint8)[labels]
