"""What the CRF's processes run: they import this module, and it must not import torch."""

import numpy as np

from attnseg.masks.crf import CrfOptions, crf_probabilities


def crf_labels(photo: np.ndarray, scores: np.ndarray, options: CrfOptions) -> np.ndarray:
    """Arg max after the CRF: photo HWC uint8 RGB, scores [C, H, W] -> HW uint8."""
    return crf_probabilities(photo, scores, options).argmax(0).astype(np.uint8)
