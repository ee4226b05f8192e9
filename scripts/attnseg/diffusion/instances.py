"""Instances of one class in a scene: segments, and what queries have to do with them.

Section 5.3 of Text2Mask: "A photo including <class>." gives the foreground; spectral clustering of
the self-attention inside it, the segments; the mean SelfCross of a query over each, its correlation.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from attnseg.batches import Batches
from attnseg.core.maps import min_max
from attnseg.diffusion.attention import attention_maps
from attnseg.diffusion.extract import Options, Sample, encode_photos, fit_of, sample_noise
from attnseg.diffusion.geometry import Fit, in_photo, to_photo
from attnseg.diffusion.personal import (
    Personal,
    check_identifier,
    personalised,
    phrase_query,
)
from attnseg.errors import UserError
from attnseg.masks.clusters import OUTSIDE, segment_means, spectral_segments
from attnseg.prompts import Query, encode_text, text_query, token_positions

# changes a query's hidden states [L, D]; the positions are those of the class's word
Edit = Callable[[torch.Tensor, list[int]], torch.Tensor]


@dataclass
class Scene:
    """A photo as the model sees it: the noisy latent [C, h, w], and where the photo lies in it."""

    id: str
    size: tuple[int, int]  # height, width of the photo
    fit: Fit
    noisy: list[torch.Tensor]  # one a noise


@dataclass
class Segments:
    """`labels` [h, w] int64, `OUTSIDE` beyond the foreground; `foreground` [h, w] in [0, 1]."""

    labels: torch.Tensor
    foreground: torch.Tensor
    fit: Fit
    size: tuple[int, int]

    def masks(self, threshold: float | None = None) -> np.ndarray:
        """[S, *size] bool, apart from each other: the segments in the photo's pixels."""
        count = int(self.labels.max()) + 1
        if count == 0:
            return np.zeros((0, *self.size), bool)
        numbers = torch.arange(count)[:, None, None]
        shares = to_photo((self.labels == numbers).float(), self.fit, self.size)
        inside = is_foreground(to_photo(self.foreground[None], self.fit, self.size)[0], threshold)
        strongest = shares.max(0)
        inside &= strongest.values > 0
        return ((strongest.indices == numbers) & inside).numpy()


@torch.no_grad()
def scene_of(parts, name: str, image: np.ndarray, options: Options) -> Scene:
    """`image`: [H, W, 3] uint8. The noise depends on the seed and the name alone."""
    sample = Sample(name, image, [])
    fit = fit_of(image, parts, options)
    latent = encode_photos(parts, [(sample, fit)], options.seed)[0]
    abar = parts.scheduler.alphas_cumprod[options.timestep].cpu()
    noisy = [
        abar.sqrt() * latent + (1 - abar).sqrt() * sample_noise(latent.shape, options.seed, name, n)
        for n in range(options.noises)
    ]
    return Scene(name, image.shape[:2], fit, noisy)


def is_foreground(foreground: torch.Tensor, threshold: float | None = None) -> torch.Tensor:
    """[...] in [0, 1] -> bool: at least the threshold, or more than the background's (1 - x)^2."""
    if threshold is None:
        return foreground > (1 - foreground) ** 2
    return foreground >= threshold


@torch.no_grad()
def query_maps(
    parts,
    asks: Sequence[tuple[Scene, Query]],
    options: Options,
    batch_size: int = 16,
    *,
    edit: Edit | None = None,
    class_word: str | None = None,
    with_affinity: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[tuple[torch.Tensor, torch.Tensor | None]]:
    """A query's SelfCross in its scene, min-max and averaged over noises: ([h', w'], affinity).

    `edit` changes the hidden states of each query, given the positions of `class_word` in it. The
    affinity [N, N] is that of the first noise.
    """
    order: dict[tuple[int, ...], list[int]] = {}
    for i, (scene, _) in enumerate(asks):
        order.setdefault(tuple(scene.noisy[0].shape), []).append(i)
    batches = [
        members[start : start + batch_size]
        for members in order.values()
        for start in range(0, len(members), batch_size)
    ]
    results: list = [None] * len(asks)
    passes = Batches(batch_size, "U-Net pass")
    for batch in progress(batches):
        queries = [asks[i][1] for i in batch]
        positions = [token_positions(parts.tokenizer, query) for query in queries]
        tokens = encode_text(parts.tokenizer, [query.text for query in queries], parts.device)
        hidden = parts.text_encoder(tokens).last_hidden_state
        if edit is not None:
            hidden = torch.stack(
                [
                    edit(row, word_positions(parts.tokenizer, query.text, class_word))
                    for row, query in zip(hidden, queries, strict=True)
                ]
            )
        sums: list = [0] * len(batch)
        affinities: list = [None] * len(batch)
        for n in range(options.noises):
            noisy = torch.stack([asks[i][0].noisy[n] for i in batch])

            def maps_of(rows: range, noisy=noisy, hidden=hidden, positions=positions, n=n) -> list:
                return attention_maps(
                    parts.unet,
                    noisy[rows].to(parts.device, parts.dtype),
                    options.timestep,
                    hidden[rows],
                    [positions[row] for row in rows],
                    cross_blocks=options.cross_blocks,
                    self_block=options.self_block,
                    iterations=options.iterations,
                    with_affinity=with_affinity and n == 0,
                )

            found = passes.over(range(len(batch)), maps_of)
            for k, maps in enumerate(maps for _, part in found for maps in part):
                sums[k] = sums[k] + within(asks[batch[k]][0], maps.selfcross)[0] / options.noises
                affinities[k] = maps.affinity if n == 0 else affinities[k]
        for k, i in enumerate(batch):
            results[i] = sums[k], affinities[k]
    return results


def within(scene: Scene, maps: torch.Tensor) -> torch.Tensor:
    """Min-max of [K, h, w] over the cells of the photo."""
    return min_max(maps, in_photo(maps.shape[1:], scene.fit))


def word_positions(tokenizer, text: str, word: str) -> list[int]:
    """Positions of the tokens of the word's first occurrence in the text."""
    start = text.index(word)
    return token_positions(tokenizer, Query(text, ((start, start + len(word)),)))[0]


def scene_segments(
    parts,
    scenes: Sequence[Scene],
    class_word: str,
    counts: Sequence[int],
    options: Options,
    *,
    threshold: float | None = None,
    locality: float | None = None,
    batch_size: int = 16,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[Segments]:
    """The foreground of each scene in as many segments as it has instances.

    `locality`: see `attnseg.masks.clusters.spectral_segments`.
    """
    query = text_query([class_word], synonyms=False, background=False)
    found = []
    # An affinity is as large as a small image: keep those of one batch.
    starts = range(0, len(scenes), batch_size)
    for start in progress(starts):
        part = list(zip(scenes, counts, strict=True))[start : start + batch_size]
        maps = query_maps(
            parts, [(scene, query) for scene, _ in part], options, batch_size, with_affinity=True
        )
        for (scene, count), (foreground, affinity) in zip(part, maps, strict=True):
            foreground = within(scene, foreground[None])[0]
            inside = is_foreground(foreground, threshold) & in_photo(foreground.shape, scene.fit)
            labels = spectral_segments(affinity, inside, count, options.seed, locality)
            found.append(Segments(labels, foreground, scene.fit, tuple(scene.size)))
    return found


def correlations(maps: Sequence[torch.Tensor], segments: Segments) -> np.ndarray:
    """Mean of each query's map over each segment: I maps [h, w] -> [I, S] float64."""
    labels = segments.labels.flatten()
    if not (labels != OUTSIDE).any():
        return np.zeros((len(maps), 0))
    return segment_means(torch.stack(list(maps)).flatten(1), labels).double().numpy()


def locate(
    parts,
    personal: Personal,
    image: np.ndarray,
    query: str,
    options: Options,
    *,
    instances: int = 4,
    threshold: float | None = None,
    locality: float | None = None,
) -> np.ndarray:
    """Where the subject of a query is in a photo, on its own: [H, W] bool.

    `query`: as in ``the <new1> mug filled with cola``; `instances`: how many objects of the class
    are in the photo, about.

    Raises:
        UserError: a query without the identifier, or a photo in which nothing of the class is found.
    """
    check_identifier(query, personal)
    if instances < 1:
        raise UserError(
            f"{instances} instances: give the number of objects of the class in the photo, 1 or more"
        )
    token = next(token for token in personal.embeddings if token in query)
    scene = scene_of(parts, "photo", image, options)
    word = personal.classes[token]
    (segments,) = scene_segments(
        parts, [scene], word, [instances], options, threshold=threshold, locality=locality
    )
    with personalised(parts, personal) as changed:
        ((found, _),) = query_maps(changed, [(scene, phrase_query(query))], options)
    values = correlations([found], segments)
    if values.shape[1] == 0:
        raise UserError(f"nothing in the photo looks like the class {word!r}: lower the threshold")
    return segments.masks(threshold)[int(values[0].argmax())]
