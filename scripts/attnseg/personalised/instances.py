"""Segment the instances of one class in a scene, and correlate queries with them.

Text2Mask, Section 5.3: the query "A photo including <class>." yields the foreground, spectral
clustering of the self-attention inside it the segments. A query's correlation with a segment is its
mean SelfCross there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch

from attnseg.backbones.interface import Backbone
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.backbones.text import Query
from attnseg.core.clusters import OUTSIDE, segment_means, spectral_segments
from attnseg.core.geometry import Fit, in_photo, to_photo
from attnseg.core.maps import min_max
from attnseg.errors import UserError
from attnseg.io.batches import Batches
from attnseg.personalised.personal import (
    Personal,
    check_identifier,
    personalised,
    phrase_query,
)
from attnseg.text2mask.extract import Sample, View, query_maps, views_of
from attnseg.text2mask.options import Options
from attnseg.text2mask.queries import text_query


@dataclass
class Segments:
    """The segments of a scene, on the attention's grid."""

    labels: torch.Tensor  # [h, w] int64, `OUTSIDE` beyond the foreground
    foreground: torch.Tensor  # [h, w] in [0, 1]
    fit: Fit
    size: tuple[int, int]  # height, width of the photo

    def masks(self, threshold: float | None = None) -> np.ndarray:
        """Disjoint masks of the segments in the photo's pixels: [S, *size] bool."""
        count = int(self.labels.max()) + 1
        if count == 0:
            return np.zeros((0, *self.size), bool)
        numbers = torch.arange(count)[:, None, None]
        shares = to_photo((self.labels == numbers).float(), self.fit, self.size)
        inside = is_foreground(to_photo(self.foreground[None], self.fit, self.size)[0], threshold)
        strongest = shares.max(0)
        inside &= strongest.values > 0
        return ((strongest.indices == numbers) & inside).numpy()


def is_foreground(foreground: torch.Tensor, threshold: float | None = None) -> torch.Tensor:
    """True where x >= threshold or, without one, x exceeds the background's score (1 - x)^2."""
    if threshold is None:
        return foreground > (1 - foreground) ** 2
    return foreground >= threshold


def word_positions(backbone: Backbone, text: str, word: str) -> list[int]:
    """Token positions of a word's first occurrence in a text."""
    start = text.index(word)
    return backbone.token_positions(Query(text, ((start, start + len(word)),)))[0]


def scene_segments(
    backbone: Backbone,
    scenes: Sequence[View],
    class_word: str,
    counts: Sequence[int],
    options: Options,
    *,
    threshold: float | None = None,
    locality: float | None = None,
    batch_size: int = 16,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Segments]:
    """Segment the foreground of each scene; `counts`: the number of instances in each.

    `locality`: see `attnseg.core.clusters.spectral_segments`.
    """
    query = text_query([class_word], synonyms=False, background=False)
    found = []
    # Affinities are [N, N]: keep only those of one batch.
    for start in progress(range(0, len(scenes), batch_size)):
        part = list(zip(scenes, counts, strict=True))[start : start + batch_size]
        pairs = [(scene, query) for scene, _ in part]
        passes = Batches(batch_size, "U-Net pass")
        results = query_maps(backbone, pairs, options, passes, with_affinity=True)
        for (scene, count), maps in zip(part, results, strict=True):
            seen = in_photo(maps.kinds["selfcross"].shape[1:], scene.fit)
            foreground = min_max(maps.kinds["selfcross"], seen)[0]
            inside = is_foreground(foreground, threshold) & seen
            labels = spectral_segments(
                cast(torch.Tensor, maps.affinity), inside, count, options.seed, locality
            )
            found.append(Segments(labels, foreground, scene.fit, (scene.size[0], scene.size[1])))
    return found


def correlations(maps: Sequence[torch.Tensor], segments: Segments) -> np.ndarray:
    """Mean of each query's map over each segment: I maps [h, w] -> [I, S] float64."""
    labels = segments.labels.flatten()
    if not (labels != OUTSIDE).any():
        return np.zeros((len(maps), 0))
    return segment_means(torch.stack(list(maps)).flatten(1), labels).double().numpy()


def locate(
    backbone: StableDiffusion,
    personal: Personal,
    image: np.ndarray,
    query: str,
    options: Options,
    *,
    instances: int = 4,
    threshold: float | None = None,
    locality: float | None = None,
) -> np.ndarray:
    """Segment the subject of a query in a photo, independently of other queries: [H, W] bool.

    Args:
        image: [H, W, 3] uint8, RGB.
        query: contains the identifier, as in ``the <new1> mug filled with cola``.
        instances: approximate number of objects of the class in the photo.
        threshold, locality: see `is_foreground` and `spectral_segments`.

    Raises:
        UserError: if the query lacks the identifier, or no object of the class is found.
    """
    check_identifier(query, personal)
    if instances < 1:
        raise UserError(
            f"{instances} instances: give the number of objects of the class in the photo, 1 or more"
        )
    token = next(token for token in personal.embeddings if token in query)
    (scene,) = views_of(backbone, [Sample("photo", image, [])], options)
    word = personal.classes[token]
    (segments,) = scene_segments(
        backbone, [scene], word, [instances], options, threshold=threshold, locality=locality
    )
    with personalised(backbone, personal) as changed:
        (maps,) = query_maps(changed, [(scene, phrase_query(query))], options)
    values = correlations([maps.kinds["selfcross"][0]], segments)
    if values.shape[1] == 0:
        raise UserError(f"nothing in the photo looks like the class {word!r}: lower the threshold")
    return segments.masks(threshold)[int(values[0].argmax())]
