"""From stored attention to a mask at the photo's size (Section 3.2, last paragraph)."""

from dataclasses import dataclass

import numpy as np
import torch

from attnseg.diffusion.geometry import Fit, to_photo
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
    image: np.ndarray,
    maps: torch.Tensor,
    fit: Fit,
    options: RefineOptions,
    background: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their confidence at the photo's size, both [H, W].

    `image`: [H, W, 3] uint8. `maps`: [K, h, w] in [0, 1]. Labels are uint8: 0 is the background,
    k the k-th map; without a `background` every pixel is the best map's, which count from 0. Without
    a CRF the confidence is 1.
    """
    size = image.shape[:2]

    def scored(maps: torch.Tensor) -> torch.Tensor:
        if not background:
            return maps
        return with_background(maps, options.background_threshold, options.background_power)

    scores = scored(maps)
    if options.crf is None and options.labels_at_grid:
        labels = scores.argmax(0, keepdim=True)
        indicator = torch.zeros_like(scores).scatter_(0, labels, 1.0)
        # nearest neighbour: the cell that a pixel's centre lies in
        grown = to_photo(
            torch.nn.functional.interpolate(indicator[None], scale_factor=16)[0], fit, size
        )
        return grown.argmax(0).numpy().astype(np.uint8), np.ones(size, np.float32)
    if options.labels_at_grid:
        scores = to_photo(scores, fit, size)
    else:
        scores = scored(to_photo(maps, fit, size))
    if options.crf is None:
        return scores.argmax(0).numpy().astype(np.uint8), np.ones(size, np.float32)
    probabilities = crf_probabilities(image, scores.numpy(), options.crf)
    return probabilities.argmax(0).astype(np.uint8), probabilities.max(0)
