"""What the CRF's processes run: they import this module, and it must not import torch."""

import numpy as np

from attnseg.core.crf import crf_probabilities
from attnseg.settings import Crf


def crf_labels(photo: np.ndarray, scores: np.ndarray, crf: Crf) -> np.ndarray:
    """Arg max after the CRF: photo HWC uint8 RGB, scores [C, H, W] -> HW uint8."""
    return crf_probabilities(photo, scores, crf).argmax(0).astype(np.uint8)
