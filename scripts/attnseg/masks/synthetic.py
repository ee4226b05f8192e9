"""From the stored attention of a generated image to its mask and reliability map (attn2mask)."""

from dataclasses import dataclass, field

import numpy as np
import torch

from attnseg.masks.crf import CrfOptions, crf_probabilities
from attnseg.masks.reliability import crf_input, normalised, reliability, with_beta_background
from attnseg.masks.scores import upsample
from attnseg.masks.threshold import otsu_labels, threshold_labels

# SimpleCRF's defaults, of its docstring: w1 10, alpha 80, beta 15, w2 3, gamma 3, 5 iterations.
# (Its demo has beta 13.)
SIMPLE_CRF = CrfOptions(
    iterations=5,
    gaussian_sxy=3,
    gaussian_compat=3,
    bilateral_sxy=80,
    bilateral_srgb=15,
    bilateral_compat=10,
)
POSTPROCESSING = ("crf", "threshold", "otsu", "none")


@dataclass(frozen=True)
class SyntheticOptions:
    """How maps become labels; the defaults are the paper's.

    `post`: "crf"; "threshold" at `theta` of 255; "otsu"; or "none", the arg max of the scores.
    """

    post: str = "crf"
    normalise: str = "minmax"
    beta: float = 0.2
    theta: float = 128
    r: float = 0.5
    crf: CrfOptions = field(default=SIMPLE_CRF)


def synthetic_mask(
    image: np.ndarray, maps: torch.Tensor, options: SyntheticOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Labels [H, W] uint8, 0 the background and k + 1 map k, and reliability [H, W] bool.

    `image`: [H, W, 3] uint8. `maps`: [K, h, w] as stored. They are upsampled first, so that each
    reaches 0 and 1 at the image's size.
    """
    grown = normalised(upsample(maps.float(), image.shape[:2]), options.normalise)
    scores = with_beta_background(grown, options.beta).numpy()
    sure = reliability(scores, options.r)
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
