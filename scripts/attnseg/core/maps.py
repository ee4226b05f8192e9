"""Normalisation of class maps."""

import torch


def min_max(maps: torch.Tensor, inside: torch.Tensor | None = None) -> torch.Tensor:
    """Scale each map to [0, 1] (Equation 4), a constant map to 0: [K, h, w] -> [K, h, w].

    `inside`: [h, w] bool, the cells over which the minimum and maximum are taken; values elsewhere
    are clipped to them.
    """
    values = maps.flatten(1) if inside is None else maps[:, inside]  # [K, n]
    low = values.amin(1)[:, None, None]
    spread = values.amax(1)[:, None, None] - low
    scaled = ((maps - low) / spread.clamp_min(1e-30)).clamp(0, 1)
    return torch.where(spread > 0, scaled, torch.zeros_like(maps))
