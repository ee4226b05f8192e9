"""From stored attention to a mask at the photo's size (Section 3.2, last paragraph)."""

import numpy as np
import torch

from attnseg.diffusion.geometry import Fit, to_photo
from attnseg.masks.crf import crf_probabilities
from attnseg.masks.scores import with_background
from attnseg.settings import PROFILES, RefinementJob


def source_maps(kinds: dict[str, torch.Tensor], source: str) -> torch.Tensor:
    """The maps of a source, [K, h, w] float32; a sum of two is their mean (Table 5)."""
    return torch.stack([kinds[kind].float() for kind in source.split("+")]).mean(0)


def refine(
    image: np.ndarray,
    maps: torch.Tensor,
    fit: Fit,
    options: RefinementJob,
    background: bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and their confidence at the photo's size, both [H, W].

    `image`: [H, W, 3] uint8. `maps`: [K, h, w] in [0, 1]. Labels are uint8: 0 is the background,
    k the k-th map; without a `background` every pixel is the best map's, which count from 0. Without
    a CRF the confidence is 1.
    """
    size, profile = image.shape[:2], PROFILES[options.profile]

    def scored(maps: torch.Tensor) -> torch.Tensor:
        if not background:
            return maps
        return with_background(maps, options.background.threshold, options.background.power)

    scores = scored(maps)
    if options.crf is None and profile.labels_at_grid:
        labels = scores.argmax(0, keepdim=True)
        indicator = torch.zeros_like(scores).scatter_(0, labels, 1.0)
        # nearest neighbour: the cell that a pixel's centre lies in
        grown = to_photo(
            torch.nn.functional.interpolate(indicator[None], scale_factor=16)[0], fit, size
        )
        return grown.argmax(0).numpy().astype(np.uint8), np.ones(size, np.float32)
    if profile.labels_at_grid:
        scores = to_photo(scores, fit, size)
    else:
        scores = scored(to_photo(maps, fit, size))
    if options.crf is None:
        return scores.argmax(0).numpy().astype(np.uint8), np.ones(size, np.float32)
    probabilities = crf_probabilities(image, scores.numpy(), options.crf, profile.wrapped_crf_image)
    return probabilities.argmax(0).astype(np.uint8), probabilities.max(0)
