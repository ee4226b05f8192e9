"""Labels from attention by thresholds alone (attn2mask, Table 5)."""

import numpy as np
from skimage.filters import threshold_otsu


def threshold_labels(maps: np.ndarray, theta: float) -> np.ndarray:
    """The largest class where 255 times its score is `theta` or more, else the background, 0.

    `maps`: [K, H, W] in [0, 1] -> [H, W] uint8, k + 1 for map k.
    """
    return _where(maps, 255 * maps.max(0) >= theta)


def otsu_labels(maps: np.ndarray) -> np.ndarray:
    """The largest class where its score exceeds Otsu's threshold of the image, else 0.

    One threshold an image, on the largest score of each pixel. `maps`: [K, H, W] -> [H, W] uint8.
    """
    strongest = maps.max(0)
    return _where(maps, strongest > threshold_otsu(strongest))


def _where(maps: np.ndarray, foreground: np.ndarray) -> np.ndarray:
    return np.where(foreground, 1 + maps.argmax(0), 0).astype(np.uint8)
