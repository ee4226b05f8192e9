"""A photo's scores at its size, with a CRF for that size."""

from collections.abc import Mapping

import numpy as np
import torch

from attnseg.core.geometry import Fit
from attnseg.settings import Bilateral, RefinementJob, read_settings
from attnseg.text2mask.refine import refined_scores

DIAGONAL = 625  # of a VOC photo in pixels: the CRF's bilateral width of 67 is for that size


def refinement_for(
    size: tuple[int, ...], crf: bool = True, given: Mapping | None = None
) -> RefinementJob:
    """The refinement of a photo of this size, (height, width).

    given: keys that override the defaults, such as {"crf": {"bilateral": {"srgb": 13}}}.

    Raises:
        UserError: if a key or value is invalid.
    """
    width = max(1.0, Bilateral().sxy * float(np.hypot(size[0], size[1])) / DIAGONAL)
    usual = {"crf": {"bilateral": {"sxy": width}}}
    values = _merged(usual, given or {}) | ({} if crf else {"crf": None})
    return read_settings(RefinementJob, values, "--set")


def _merged(values: Mapping, over: Mapping) -> dict:
    return dict(values) | {
        name: _merged(values[name], value)
        if isinstance(value, Mapping) and isinstance(values.get(name), Mapping)
        else value
        for name, value in over.items()
    }


def photo_scores(
    image: np.ndarray, item: dict, maps: torch.Tensor, refinement: RefinementJob
) -> np.ndarray:
    """Scores of the background and the classes, [K + 1, H, W] float32, from a photo's maps."""
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    return refined_scores(image, maps, fit, refinement)
