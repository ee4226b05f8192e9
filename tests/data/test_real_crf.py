"""On real VOC photos, labels that the CRF leaves out change fewer than 0.1 % of pixels."""

import cv2
import numpy as np
import pytest

from attnseg.core import crf
from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.settings import Crf

pytestmark = [pytest.mark.data, pytest.mark.slow]


def segmentor_like(truth: np.ndarray, labels: int, seed: int) -> np.ndarray:
    """Probabilities [L, H, W] as of a segmentor with an eighth of the photo's resolution: the truth,
    blurred, with noise; each label that is not in the photo is as likely as 1e-2 to 1e-6 on average."""
    rng = np.random.default_rng(seed)
    (height, width), small = truth.shape, (truth.shape[1] // 8, truth.shape[0] // 8)
    scores = np.empty((labels, height, width), np.float32)
    for label, floor in enumerate(rng.uniform(-6, -2, labels)):
        inside = cv2.resize(
            (truth == label).astype(np.float32), small, interpolation=cv2.INTER_AREA
        )
        logits = np.log(inside + 10**floor) + rng.normal(0, 0.7, inside.shape)
        scores[label] = cv2.resize(logits.astype(np.float32), (width, height))
    scores = np.exp(scores - scores.max(0))
    return scores / scores.sum(0)


def test_few_pixels_of_127_photos_change(real_voc):
    changed, left_out = [], 0
    ids = voc.read_split(real_voc, "train") + voc.read_split(real_voc, "val")
    for number, image_id in enumerate(ids):
        photo = read_image(voc.image_path(real_voc, image_id))
        truth = read_mask(voc.mask_path(real_voc, image_id), photo.shape[:2])
        scores = segmentor_like(truth, 21, number)
        whole = crf.inferred(photo, np.maximum(scores, crf.LEAST_SCORE), Crf())
        short = crf.crf_probabilities(photo, scores, Crf())
        changed.append((whole.argmax(0) != short.argmax(0)).mean())
        left_out += int((short.max((1, 2)) == 0).sum())
    print(
        f"{left_out / len(ids):.1f} of 21 labels left out, {100 * np.mean(changed):.5f} % of pixels "
        f"changed, {100 * np.max(changed):.4f} % in one photo at most"
    )
    assert len(changed) == 127 and left_out > len(ids)
    assert max(changed) < 1e-3
