"""One photo from its pixels and the names of what is in it to labels."""

import sys
from collections.abc import Sequence

import numpy as np

from attnseg.backbones.interface import Backbone
from attnseg.core.geometry import Fit
from attnseg.errors import UserError
from attnseg.settings import Bilateral, Crf, RefinementJob
from attnseg.text2mask.extract import Options, Sample, extract, options_for
from attnseg.text2mask.refine import refined_scores

DIAGONAL = 625  # of a VOC photo, pixels, where the CRF's bilateral width is 67


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
    """Where the named classes are in a photo.

    Args:
        backbone: of `load_backbone`.
        image: [H, W, 3] uint8, RGB.
        classes: what is in it, each once.
        noises: maps that are averaged; more are steadier, and take longer.
        crf: refine the edges.
        options: all that can be set about the attention, `noises` included; by default what is
            usual for the model.
        name: the photo's noise depends on it.

    Returns:
        The labels [H, W] uint8, 0 the background and k the k-th class, and the scores
        [K + 1, H, W] float32 that they are the largest of: probabilities after the CRF.
    """
    if not classes or len(set(classes)) != len(classes):
        raise UserError("name each class once, as in dog,sofa")
    options = options or options_for(backbone, noises=noises)
    tensors, (item,) = extract(backbone, [Sample(name, image, list(classes))], options)
    if item["skipped"]:
        print(f"no attention at all for: {', '.join(item['skipped'])}", file=sys.stderr)
    scale = np.hypot(*image.shape[:2]) / DIAGONAL
    bilateral = Bilateral(sxy=max(1.0, Bilateral().sxy * float(scale)))
    refinement = RefinementJob(crf=Crf(bilateral=bilateral) if crf else None)
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    maps = tensors[f"{name}/selfcross"].float()
    scores = refined_scores(image, maps, fit, refinement)
    return scores.argmax(0).astype(np.uint8), scores
