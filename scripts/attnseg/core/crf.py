"""Dense CRF of Krähenbühl and Koltun 2011, through pydensecrf."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from attnseg.errors import UserError

if TYPE_CHECKING:
    from attnseg.settings import Crf

MEAN_BGR = np.array((104.008, 116.669, 122.675), np.float32)
LEAST_SCORE = 1e-5


def densecrf() -> ModuleType:
    """pydensecrf's module.

    Raises:
        UserError: where it is not installed.
    """
    try:
        import pydensecrf.densecrf
    except ImportError as error:
        raise UserError(
            f"the CRF needs pydensecrf2 ({error}): install the extra `crf`, which needs g++, as in "
            "pip install -c envs/requirements.lock '.[crf]', or go without (--no-crf)"
        ) from None
    return pydensecrf.densecrf


def crf_probabilities(
    image: np.ndarray, scores: np.ndarray, crf: Crf, wrapped_image: bool = False
) -> np.ndarray:
    """Label probabilities after mean-field inference: [L, H, W] float32.

    `image`: [H, W, 3] uint8 RGB. `scores`: [L, H, W] float32, not necessarily normalised; the unary
    is -log(score), with scores clipped at 1e-5. `wrapped_image`: like the official code, use the
    mean-subtracted BGR image cast to uint8, where negative values wrap around.
    """
    labels, height, width = scores.shape
    if wrapped_image:
        image = (image[..., ::-1] - MEAN_BGR).astype(np.int16).astype(np.uint8)
    if labels == 1:
        return np.ones((1, height, width), np.float32)
    field = densecrf().DenseCRF2D(width, height, labels)
    unary = -np.log(np.clip(scores, LEAST_SCORE, None)).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    field.addPairwiseGaussian(sxy=crf.gaussian.sxy, compat=crf.gaussian.compat)
    field.addPairwiseBilateral(
        sxy=crf.bilateral.sxy,
        srgb=crf.bilateral.srgb,
        rgbim=np.array(image, np.uint8, order="C"),  # a copy: it must be writable
        compat=crf.bilateral.compat,
    )
    marginals = np.asarray(field.inference(crf.iterations), np.float32)
    return marginals.reshape(labels, height, width)
