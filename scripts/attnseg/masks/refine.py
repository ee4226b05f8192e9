"""From stored attention to a mask at the photo's size (Section 3.2, last paragraph)."""

from dataclasses import dataclass

import numpy as np
import torch

from attnseg.core.geometry import Fit, to_photo
from attnseg.masks.crf import CrfOptions, crf_probabilities
from attnseg.masks.scores import with_background

SOURCES = ("selfcross", "cross", "cbp", "cross+selfcross")


@dataclass(frozen=True)
class RefineOptions:
    """Which maps become scores, and how scores become labels; the defaults are the paper's."""

    source: str = "selfcross"
    background_threshold: float = 1.0
    background_power: float | None = 2.0  # None: the threshold is the background's score
    crf: CrfOptions | None = None
    confidence: float = 0.95  # least CRF probability of a pixel that trains the segmentor
    labels_at_grid: bool = False  # official code: arg max before upsampling, where there is no CRF


def source_maps(kinds: dict[str, torch.Tensor], source: str) -> torch.Tensor:
    """The maps of a source, [K, h, w] float32; a sum of two is their mean (Table 5)."""
    return torch.stack([kinds[kind].float() for kind in source.split("+")]).mean(0)


def refine(
    image: np.ndarray, maps: torch.Tensor, fit: Fit, options: RefineOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their confidence at the photo's size, both [H, W].

    `image`: [H, W, 3] uint8. `maps`: [K, h, w] in [0, 1]. Labels are uint8: 0 is the background,
    k the k-th map. Without a CRF the confidence is 1.
    """
    scores = refined_scores(image, maps, fit, options)
    certain = np.ones(image.shape[:2], np.float32) if options.crf is None else scores.max(0)
    return scores.argmax(0).astype(np.uint8), certain


def refined_scores(
    image: np.ndarray, maps: torch.Tensor, fit: Fit, options: RefineOptions
) -> np.ndarray:
    """Scores of the background and the classes at the photo's size, [K + 1, H, W] float32."""
    size = image.shape[:2]
    threshold, power = options.background_threshold, options.background_power
    if not options.labels_at_grid:
        scores = with_background(to_photo(maps, fit, size), threshold, power)
    elif options.crf is not None:
        scores = to_photo(with_background(maps, threshold, power), fit, size)
    else:
        scores = with_background(maps, threshold, power)
        labels = scores.argmax(0, keepdim=True)
        indicator = torch.zeros_like(scores).scatter_(0, labels, 1.0)
        # nearest neighbour: the cell that a pixel's centre lies in
        grown = torch.nn.functional.interpolate(indicator[None], scale_factor=16)[0]
        scores = to_photo(grown, fit, size)
    if options.crf is None:
        return scores.numpy()
    return crf_probabilities(image, scores.numpy(), options.crf)
