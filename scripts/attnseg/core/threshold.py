"""Labels from attention by thresholds alone (attn2mask, Table 5)."""

import numpy as np
from skimage.filters import threshold_otsu


def threshold_labels(maps: np.ndarray, theta: float) -> np.ndarray:
    """Label a pixel with its largest class where 255 times that score is at least `theta`.

    `maps`: [K, H, W] in [0, 1]. Returns [H, W] uint8: 0 is the background, k + 1 map k.
    """
    return _where(maps, 255 * maps.max(0) >= theta)


def otsu_labels(maps: np.ndarray) -> np.ndarray:
    """Label a pixel with its largest class where that score exceeds Otsu's threshold.

    There is one threshold per image, on each pixel's largest score. `maps`: [K, H, W]. Returns
    [H, W] uint8: 0 is the background, k + 1 map k.
    """
    strongest = maps.max(0)
    return _where(maps, strongest > threshold_otsu(strongest))


def _where(maps: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    return np.where(foreground, 1 + maps.argmax(0), 0).astype(np.uint8)
