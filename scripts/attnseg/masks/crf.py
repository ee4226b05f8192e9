"""Dense CRF of Krähenbühl and Koltun 2011, through pydensecrf."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pydensecrf.densecrf as densecrf

from attnseg.errors import UserError

MEAN_BGR = np.array((104.008, 116.669, 122.675), np.float32)
LEAST_SCORE = 1e-5


@dataclass(frozen=True)
class CrfOptions:
    """Widths in pixels (sxy) and grey levels (srgb); the defaults are the authors'."""

    iterations: int = 10
    gaussian_sxy: float = 1
    gaussian_compat: float = 3
    bilateral_sxy: float = 67
    bilateral_srgb: float = 3
    bilateral_compat: float = 4
    wrapped_image: bool = False  # the official code's image: mean-subtracted BGR, cast to uint8

    @classmethod
    def from_json(cls, text: str, usual: "CrfOptions | None" = None) -> "CrfOptions":
        """A `crf` section of the configuration as JSON; what is absent is as `usual`.

        Raises:
            UserError: for anything else.
        """
        try:
            values = json.loads(text)
            kernels = {
                f"{kernel}_{key}": value
                for kernel in ("gaussian", "bilateral")
                for key, value in values.pop(kernel, {}).items()
            }
            options = replace(usual or cls(), **values, **kernels)
            wrong = [key for key, v in vars(options).items() if not isinstance(v, int | float)]
            if wrong:
                raise ValueError(f"{wrong[0]} is no number")
        except (ValueError, TypeError, AttributeError) as problem:
            raise UserError(
                f"--crf: not the configuration's crf section as JSON ({problem})"
            ) from None
        return options


def crf_probabilities(image: np.ndarray, scores: np.ndarray, options: CrfOptions) -> np.ndarray:
    """Label probabilities after mean-field inference: [L, H, W] float32.

    `image`: [H, W, 3] uint8 RGB. `scores`: [L, H, W], not necessarily normalised; the unary is
    -log(score), clipped at 1e-5.
    """
    labels, height, width = scores.shape
    if options.wrapped_image:
        image = (image[..., ::-1] - MEAN_BGR).astype(np.int16).astype(np.uint8)
    if labels == 1:
        return np.ones((1, height, width), np.float32)
    field = densecrf.DenseCRF2D(width, height, labels)
    unary = -np.log(np.clip(scores, LEAST_SCORE, None)).reshape(labels, -1)
    field.setUnaryEnergy(np.ascontiguousarray(unary, np.float32))
    field.addPairwiseGaussian(sxy=options.gaussian_sxy, compat=options.gaussian_compat)
    field.addPairwiseBilateral(
        sxy=options.bilateral_sxy,
        srgb=options.bilateral_srgb,
        rgbim=np.array(image, np.uint8, order="C"),  # a copy: it must be writable
        compat=options.bilateral_compat,
    )
    marginals = np.asarray(field.inference(options.iterations), np.float32)
    return marginals.reshape(labels, height, width)
