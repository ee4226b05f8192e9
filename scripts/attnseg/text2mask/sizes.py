"""Photos of any size: masks are refined at up to 2 million pixels, and enlarged to the photo's."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from attnseg.core.geometry import Fit
from attnseg.settings import Bilateral, Crf, RefinementJob
from attnseg.text2mask.refine import refined_scores

DIAGONAL = 625  # of a VOC photo in pixels: the CRF's bilateral width of 67 is for that size
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


def photo_scores(image: np.ndarray, item: dict, maps: torch.Tensor, crf: bool) -> np.ndarray:
    """Scores of the background and the classes, [K + 1, H, W] float32, from a photo's maps."""
    bilateral = Bilateral(
        sxy=max(1.0, Bilateral().sxy * float(np.hypot(*image.shape[:2])) / DIAGONAL)
    )
    refinement = RefinementJob(crf=Crf(bilateral=bilateral) if crf else None)
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    return refined_scores(image, maps, fit, refinement)


def enlarged(score: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """One label's scores, [h, w] float32, enlarged bilinearly to [H, W]."""
    return F.interpolate(torch.from_numpy(score)[None, None], size, mode="bilinear")[0, 0].numpy()


def enlarged_labels(scores: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The arg max of scores [L, h, w] that are enlarged to [H, W]: uint8. One label at a time, which
    takes less memory."""
    if scores.shape[1:] == size:
        return scores.argmax(0).astype(np.uint8)
    best, labels = enlarged(scores[0], size), np.zeros(size, np.uint8)
    for number in range(1, len(scores)):
        other = enlarged(scores[number], size)
        better = other > best
        labels[better] = number
        np.copyto(best, other, where=better)
    return labels
