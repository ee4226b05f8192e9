"""A photo's scores at its size, with a CRF for that size."""

import numpy as np
import torch

from attnseg.core.geometry import Fit
from attnseg.settings import Bilateral, Crf, RefinementJob
from attnseg.text2mask.refine import refined_scores

DIAGONAL = 625  # of a VOC photo in pixels: the CRF's bilateral width of 67 is for that size


def photo_scores(image: np.ndarray, item: dict, maps: torch.Tensor, crf: bool) -> np.ndarray:
    """Scores of the background and the classes, [K + 1, H, W] float32, from a photo's maps."""
    bilateral = Bilateral(
        sxy=max(1.0, Bilateral().sxy * float(np.hypot(*image.shape[:2])) / DIAGONAL)
    )
    refinement = RefinementJob(crf=Crf(bilateral=bilateral) if crf else None)
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    return refined_scores(image, maps, fit, refinement)
