"""The class-aware box mask that the authors' code applies to Cross before propagation."""

import numpy as np
import torch
from scipy import ndimage


def box_mask(maps: torch.Tensor, threshold: float) -> tuple[torch.Tensor, list[int]]:
    """Ones inside the bounding boxes of a map's strong regions, [K, h, w] float32, and empty maps.

    `maps`: [K, h, w] in [0, 1]. A pixel is strong where its value in 255ths, rounded down, is more
    than the threshold's times the map's maximum. Boxes are those of the 8-connected regions; their
    ends are clamped to h - 1 and w - 1 and excluded, so the last row and column are never inside.
    A class whose boxes are all empty keeps its whole map, since nothing may be divided by zero
    later, and its number is in the list.
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
