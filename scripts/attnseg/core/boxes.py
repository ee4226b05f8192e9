"""The class-aware box mask that the authors' code applies to Cross before propagation."""

import numpy as np
import torch
from scipy import ndimage


def box_mask(maps: torch.Tensor, threshold: float) -> tuple[torch.Tensor, list[int]]:
    """Mask each map to the bounding boxes of its strong regions.

    A pixel is strong where its value in 255ths, rounded down, exceeds `threshold` times the map's
    maximum, rounded likewise. Regions are 8-connected. As in the official code, the ends of a box
    are clamped to h - 1 and w - 1 and excluded, so the last row and column are never inside.

    Args:
        maps: [K, h, w] in [0, 1].
        threshold: in [0, 1].

    Returns:
        The masks [K, h, w] float32, 1 inside the boxes; and the indices of the classes whose boxes
        are all empty. Their mask is 1 everywhere, to avoid a later division by zero.
    """
    masks, empty = torch.zeros_like(maps), []
    height, width = maps.shape[1:]
    for k, (mask, values) in enumerate(zip(masks, maps.numpy(), strict=True)):
        levels = (values * 255).astype(np.uint8)
        strong = levels > int(threshold * levels.max())
        regions, _ = ndimage.label(strong, structure=np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(regions):
            bottom, right = min(rows.stop, height - 1), min(columns.stop, width - 1)
            mask[rows.start : bottom, columns.start : right] = 1
        if not mask.any():
            mask.fill_(1)
            empty.append(k)
    return masks, empty
