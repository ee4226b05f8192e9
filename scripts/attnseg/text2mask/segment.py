"""Segment one photo, given the names of its classes."""

import sys
from collections.abc import Sequence

import numpy as np

from attnseg.backbones.interface import Backbone
from attnseg.core.geometry import Fit
from attnseg.errors import UserError
from attnseg.settings import Bilateral, Crf, RefinementJob
from attnseg.text2mask.extract import Options, Sample, extract, options_for
from attnseg.text2mask.refine import refined_scores

DIAGONAL = 625  # of a VOC photo in pixels: the CRF's bilateral width of 67 is for that size


def segment(
    backbone: Backbone,
    image: np.ndarray,
    classes: Sequence[str],
    noises: int = 4,
    crf: bool = True,
    *,
    options: Options | None = None,
    name: str = "photo",
) -> tuple[np.ndarray, np.ndarray]:
    """Segment a photo into the named classes and the background.

    Args:
        backbone: from `load_backbone`.
        image: [H, W, 3] uint8, RGB.
        classes: names of the classes in the photo, without repeats.
        noises: number of noise samples to average over; more are less noisy, and take longer.
        crf: refine edges with a dense CRF.
        options: all settings of the attention, including `noises`, which they override; by default
            those that suit the model.
        name: seeds the photo's noise.

    Returns:
        Labels [H, W] uint8, 0 for the background and k for the k-th class, counted from 1; and
        scores [K + 1, H, W] float32, whose arg max the labels are: probabilities with the CRF.

    Raises:
        UserError: if no class is given, or one twice, or a class does not fit the text encoder's
            window.
    """
    if not classes or len(set(classes)) != len(classes):
        raise UserError("name each class once, as in dog,sofa")
    options = options or options_for(backbone, noises=noises)
    tensors, (item,) = extract(backbone, [Sample(name, image, list(classes))], options)
    if item["skipped"]:
        print(f"constant attention map for: {', '.join(item['skipped'])}", file=sys.stderr)
    scale = np.hypot(*image.shape[:2]) / DIAGONAL
    bilateral = Bilateral(sxy=max(1.0, Bilateral().sxy * float(scale)))
    refinement = RefinementJob(crf=Crf(bilateral=bilateral) if crf else None)
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    maps = tensors[f"{name}/selfcross"].float()
    scores = refined_scores(image, maps, fit, refinement)
    return scores.argmax(0).astype(np.uint8), scores
