"""Scores and reliability maps of generated images (attn2mask, Equations 5 and 6)."""

import numpy as np
import torch

from attnseg.core.maps import min_max
from attnseg.errors import UserError

NORMALISATIONS = ("minmax", "max", "none")


def normalised(maps: torch.Tensor, how: str = "minmax") -> torch.Tensor:
    """Scale each map of [K, H, W]: "minmax" to [0, 1], "max" to a maximum of 1, "none" not at all.

    The paper does not specify it. Unscaled averages of a softmax are far below the 0.5 of Equation 6.
    """
    if how == "minmax":
        return min_max(maps)
    if how == "max":
        highest = maps.amax((-2, -1), keepdim=True)
        return torch.where(highest > 0, maps / highest.clamp_min(1e-30), torch.zeros_like(maps))
    if how == "none":
        return maps
    raise UserError(f"normalise: {how!r}: choose one of {', '.join(NORMALISATIONS)}")


def with_beta_background(maps: torch.Tensor, beta: float = 0.2) -> torch.Tensor:
    """Prepend A_0 = 1 - max_i A_i - beta (Equation 5): [K, H, W] -> [K + 1, H, W]."""
    return torch.cat([1 - maps.amax(0, keepdim=True) - beta, maps])


def crf_input(scores: np.ndarray, clip: float) -> np.ndarray:
    """Scores as SimpleCRF takes them: [K + 1, H, W], clipped to [clip, 1 - clip], not normalised."""
    return np.clip(scores, clip, 1 - clip)


def reliability(scores: np.ndarray, r: float = 0.5) -> np.ndarray:
    """Reliability map R (Equation 6): [H, W] bool, true where the largest score is at least r.

    `scores`: [K + 1, H, W], the background included.
    """
    return scores.max(0) >= r
