"""Scores of the classes and of the background (Text2Mask, Section 3.2)."""

import torch
import torch.nn.functional as F


def with_background(
    maps: torch.Tensor, threshold: float = 1.0, power: float | None = 2.0
) -> torch.Tensor:
    """Put the background's score, (threshold - max_k)^power, before the classes'.

    Without a power it is the threshold itself, the constant of Figure B.8.

    `maps`: [K, h, w] in [0, 1] -> [K + 1, h, w]. The paper: threshold 1, power 2. The official code
    for COCO: threshold 0.7.
    """
    strongest = maps.amax(0, keepdim=True)
    if power is None:
        return torch.cat([torch.full_like(strongest, threshold), maps])
    return torch.cat([(threshold - strongest).abs() ** power, maps])


def upsample(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear (align_corners False) to height x width: [K, h, w] -> [K, *size]."""
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
