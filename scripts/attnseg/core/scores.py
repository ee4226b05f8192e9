"""Scores of the classes and of the background (Text2Mask, Section 3.2)."""

import torch
import torch.nn.functional as F


def with_background(
    maps: torch.Tensor, threshold: float = 1.0, power: float | None = 2.0
) -> torch.Tensor:
    """Prepend the background's score, (threshold - max_k)^power: [K, h, w] -> [K + 1, h, w].

    `maps` are in [0, 1]. The paper has threshold 1 and power 2, the official code for COCO
    threshold 0.7. With `power` None the score is the threshold itself (Figure B.8).
    """
    strongest = maps.amax(0, keepdim=True)
    if power is None:
        return torch.cat([torch.full_like(strongest, threshold), maps])
    return torch.cat([(threshold - strongest).abs() ** power, maps])


def upsample(maps: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Resize maps bilinearly to `size`, (height, width): [K, h, w] -> [K, *size]."""
    return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
