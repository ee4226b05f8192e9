"""Photos of any size: what is made at up to 2 million pixels, and enlarged to the photo's. No torch."""

import numpy as np
from PIL import Image

LARGEST = 2_000_000  # pixels


def reduced(image: np.ndarray) -> np.ndarray:
    """The photo [H, W, 3] uint8, made smaller if it has more than 2 million pixels."""
    height, width = image.shape[:2]
    scale = (LARGEST / (height * width)) ** 0.5
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # the gap of 2 lets a cheaper filter make the first of large steps
    resized = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    return np.asarray(resized)


def enlarged(score: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One label's scores, [h, w] float32, enlarged bilinearly to [H, W]."""
    resized = Image.fromarray(score).resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized)


def enlarged_labels(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The arg max of scores [L, h, w] that are enlarged to [H, W]: uint8. One label at a time, which
    takes less memory."""
    if scores.shape[1:] == size:
        return scores.argmax(0).astype(np.uint8)
    best, labels = enlarged(scores[0], size).copy(), np.zeros(size, np.uint8)
    for number in range(1, len(scores)):
        other = enlarged(scores[number], size)
        better = other > best
        labels[better] = number
        np.copyto(best, other, where=better)
    return labels
