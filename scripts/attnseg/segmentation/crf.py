"""CRF worker; keep torch out of its imports."""

import numpy as np

from attnseg.core.crf import crf_probabilities
from attnseg.settings import PROFILES, Crf, ProfileName


def crf_labels(photo: np.ndarray, scores: np.ndarray, crf: Crf, profile: ProfileName) -> np.ndarray:
    """Arg max after the CRF: photo [H, W, 3] uint8 RGB, scores [C, H, W] -> [H, W] uint8."""
    wrapped = PROFILES[profile].wrapped_crf_image
    return crf_probabilities(photo, scores, crf, wrapped).argmax(0).astype(np.uint8)
