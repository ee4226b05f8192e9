"""Scores of generated images and where to trust them (attn2mask, Equations 5 and 6)."""

import numpy as np
import torch

from attnseg.core.maps import min_max
from attnseg.errors import UserError

NORMALISATIONS = ("minmax", "max", "none")


def normalised(maps: torch.Tensor, how: str = "minmax") -> torch.Tensor:
    """Class maps [K, H, W] scaled a map: to [0, 1], to a maximum of 1, or not at all.

    The paper does not say how; averages of a softmax are far below 0.5 as they are.
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
    """Put A_0 = 1 - max_i A_i - beta before the classes (Equation 5): [K, H, W] -> [K + 1, H, W]."""
    return torch.cat([1 - maps.amax(0, keepdim=True) - beta, maps])


def crf_input(scores: np.ndarray) -> np.ndarray:
    """Scores [K + 1, H, W] as probabilities: clipped to [1e-5, 1], divided by their sum."""
    clipped = np.clip(scores, 1e-5, 1)
    return clipped / clipped.sum(0)


def reliability(scores: np.ndarray, r: float = 0.5) -> np.ndarray:
    """R = 1 where the largest score, the background's included, is r or more: [H, W] bool."""
    return scores.max(0) >= r
