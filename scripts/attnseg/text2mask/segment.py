"""Segment photos, given the names of their classes."""

import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from attnseg.backbones.interface import Backbone
from attnseg.core.sizes import enlarged, reduced
from attnseg.errors import UserError
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.options import Options, options_for
from attnseg.text2mask.sizes import photo_scores, refinement_for


def segment(
    backbone: Backbone,
    image: np.ndarray,
    classes: Sequence[str],
    noises: int = 4,
    crf: bool = True,
    *,
    options: Options | None = None,
    name: str = "photo",
    refinement: Mapping | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Segment a photo into the named classes and the background.

    A photo of more than 2 million pixels is segmented at that size, and its scores are enlarged.

    Args:
        backbone: from `load_backbone`.
        image: [H, W, 3] uint8, RGB.
        classes: names of the classes in the photo, without repeats.
        noises: number of noise samples to average over; more are less noisy, and take longer.
        crf: refine edges with a dense CRF.
        options: all settings of the attention, including `noises`, which they override; by default
            those that suit the model.
        name: seeds the photo's noise.
        refinement: keys of `attnseg.settings.RefinementJob` that override the defaults, such as
            {"background": {"power": 3}}.

    Returns:
        Labels [H, W] uint8, 0 for the background and k for the k-th class, counted from 1; and
        scores [K + 1, H, W] float32, whose arg max the labels are: probabilities with the CRF.

    Raises:
        UserError: if no class is given, or one twice, or the model computes values that are not
            finite.
    """
    if not classes or len(set(classes)) != len(classes):
        raise UserError("name each class once, as in dog,sofa")
    options = options or options_for(backbone, noises=noises)
    small = reduced(image)
    refined = refinement_for(small.shape, crf, refinement)
    ((item, maps),) = maps_of(backbone, [Sample(name, small, list(classes))], options)
    if item["skipped"]:
        print(f"constant attention map for: {', '.join(item['skipped'])}", file=sys.stderr)
    scores = photo_scores(small, item, maps, refined)
    if small is not image:
        scores = np.stack([enlarged(one, image.shape[:2]) for one in scores])
    return scores.argmax(0).astype(np.uint8), scores


def maps_of(
    backbone: Backbone,
    samples: Sequence[Sample],
    options: Options,
    batch_size: int = 8,
    keep: Callable[[dict, torch.Tensor], None] | None = None,
) -> list[tuple[dict, torch.Tensor]]:
    """Of each photo its manifest entry and the maps of its classes, [K, h, w] float32 in [0, 1].

    `keep` is given each photo's entry and its Self, [N, N] float16.
    """
    tensors, items = extract(backbone, samples, options, batch_size, with_self=keep is not None)
    empty, found = torch.zeros(0, 1, 1), []
    for item in items:
        if keep is not None and f"{item['id']}/self" in tensors:
            keep(item, tensors[f"{item['id']}/self"])
        found.append((item, tensors.get(f"{item['id']}/selfcross", empty).float()))
    return found
