"""What the attention of one photo can be turned into (Figure 2)."""

from dataclasses import dataclass

import numpy as np
import torch

from attnseg.backbones.interface import Backbone
from attnseg.core.clusters import spectral_segments
from attnseg.core.geometry import in_photo, to_photo
from attnseg.text2mask.extract import Sample, queries_of, query_maps, views_of
from attnseg.text2mask.options import Options

CLUSTERS = 5


@dataclass
class Stages:
    """Of a photo [H, W, 3] uint8: `clusters` [H, W] int, and maps [K, H, W] in [0, 1] by name."""

    photo: np.ndarray
    classes: list[str]
    clusters: np.ndarray
    maps: dict[str, np.ndarray]


def stages_of(backbone: Backbone, sample: Sample, options: Options) -> Stages:
    """Everything that is drawn of a photo, at its own size."""
    (view,) = views_of(backbone, [sample], options)
    queries = [(view, query) for _, query in queries_of(backbone, sample.classes, options)]
    found = query_maps(backbone, queries, options, with_affinity=True)
    affinity = found[0].affinity
    assert affinity is not None  # it was asked for
    maps = {kind: torch.cat([each.kinds[kind] for each in found]) for kind in found[0].kinds}
    inside = in_photo(maps["cross"].shape[1:], view.fit)
    clusters = spectral_segments(affinity, inside, CLUSTERS, options.seed)
    shares = torch.stack([(clusters == n).float() for n in range(CLUSTERS)])
    names = {"cross": "Cross", "cbp": "CBP", "selfcross": "SelfCross"}
    kinds = {name: to_photo(maps[k], view.fit, view.size) for k, name in names.items()}
    return Stages(
        sample.image,
        sample.classes,
        to_photo(shares, view.fit, view.size).argmax(0).numpy(),
        {name: values.numpy() for name, values in kinds.items()},
    )
