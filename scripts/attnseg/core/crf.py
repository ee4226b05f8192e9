"""Dense CRF of Krähenbühl and Koltun 2011, through pydensecrf."""

from __future__ import annotations

import hashlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from attnseg.errors import UserError

if TYPE_CHECKING:
    from attnseg.settings import Crf

MEAN_BGR = np.array((104.008, 116.669, 122.675), np.float32)
LEAST_SCORE = 1e-5
UNLIKELY = 1e-3  # labels that share less than this at each pixel, taken together, are left out


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
    image: np.ndarray,
    scores: np.ndarray,
    crf: Crf,
    wrapped_image: bool = False,
    lattices: dict | None = None,
) -> np.ndarray:
    """Label probabilities after mean-field inference: [L, H, W] float32.

    Labels that are nowhere likely are left out, and have the probability 0 (see `likely`).

    `image`: [H, W, 3] uint8 RGB. `scores`: [L, H, W] float32, not necessarily normalised; the unary
    is -log(score), with scores clipped at 1e-5. `wrapped_image`: like the official code, use the
    mean-subtracted BGR image cast to uint8, where negative values wrap around. `lattices`: keeps what
    depends on the photo alone, of the last photo, for its next refinement.
    """
    labels, height, width = scores.shape
    if wrapped_image:
        image = (image[..., ::-1] - MEAN_BGR).astype(np.int16).astype(np.uint8)
    scores = np.clip(scores, LEAST_SCORE, None)
    kept = likely(scores)
    if len(kept) < labels:
        found = np.zeros((labels, height, width), np.float32)
        found[kept] = inferred(image, scores[kept], crf, lattices)
        return found
    return inferred(image, scores, crf, lattices)


def likely(scores: np.ndarray) -> list[int]:
    """The labels that an inference needs: all but the least likely whose probabilities sum to less than
    UNLIKELY at each pixel.

    A mean-field iteration multiplies a label's probability by at most exp(W q), where W is the sum of the
    kernels' weights and q its greatest probability so far, so that the others' logits change by about
    W UNLIKELY at most: by 0.007 with the usual weights.

    `scores`: [L, H, W] float32, positive, not necessarily normalised.
    """
    share = scores / scores.sum(0)
    kept, lost = set(range(len(scores))), np.zeros_like(share[0])
    for label in share.max((1, 2)).argsort(kind="stable").tolist():
        lost += share[label]
        if lost.max() >= UNLIKELY:
            break
        kept.remove(label)
    return sorted(kept)


def inferred(
    image: np.ndarray, scores: np.ndarray, crf: Crf, lattices: dict | None = None
) -> np.ndarray:
    """The same, of all labels; `scores` are positive."""
    labels, height, width = scores.shape
    if labels == 1:
        return np.ones((1, height, width), np.float32)
    key = (
        *(labels, height, width, hashlib.blake2b(image.tobytes()).digest()),
        *(crf.gaussian.sxy, crf.gaussian.compat),
        *(crf.bilateral.sxy, crf.bilateral.srgb, crf.bilateral.compat),
    )
    lattices = {} if lattices is None else lattices
    field = lattices.pop(key, None)  # another thread may not use it meanwhile
    if field is None:
        lattices.clear()  # before it takes as much memory again
        field = connected(image, labels, crf)
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(scores).reshape(labels, -1), np.float32))
    marginals = np.asarray(field.inference(crf.iterations), np.float32)
    lattices[key] = field
    return marginals.reshape(labels, height, width)


def connected(image: np.ndarray, labels: int, crf: Crf) -> Any:
    """pydensecrf's field of a photo with both kernels, without unaries."""
    field = densecrf().DenseCRF2D(image.shape[1], image.shape[0], labels)
    field.addPairwiseGaussian(sxy=crf.gaussian.sxy, compat=crf.gaussian.compat)
    field.addPairwiseBilateral(
        sxy=crf.bilateral.sxy,
        srgb=crf.bilateral.srgb,
        rgbim=np.array(image, np.uint8, order="C"),  # a copy: it must be writable
        compat=crf.bilateral.compat,
    )
    return field
