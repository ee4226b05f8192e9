"""Extract low-resolution attention maps from photos and their labels (Text2Mask, Section 3.4)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from attnseg.backbones.concepts import concepts_of
from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.text import Query, TooLong
from attnseg.core.clusters import cbp_scores
from attnseg.core.finite import check_finite
from attnseg.core.geometry import (
    Fit,
    in_photo,
    model_input,
    native_fit,
    official_fit,
    own_fit,
)
from attnseg.core.maps import min_max
from attnseg.core.seeds import generator_of
from attnseg.errors import UserError
from attnseg.io.batches import Batches
from attnseg.text2mask.attention import AttentionMaps, Record, attention_maps
from attnseg.text2mask.options import Options
from attnseg.text2mask.queries import text_query

Positions = list[list[int]]  # token positions per class
Edit = Callable[[torch.Tensor, Query], torch.Tensor]  # a query's hidden states [L, D] -> the same


@dataclass
class Sample:
    """A photo [H, W, 3] uint8 and the classes present in it."""

    id: str
    image: np.ndarray
    classes: list[str]


@dataclass
class View:
    """An encoded photo: latents [C, h, w], and the transform to the model's input."""

    id: str
    size: tuple[int, int]  # height, width of the photo
    fit: Fit
    latents: torch.Tensor


@dataclass
class QueryMaps:
    """Maps of one query in one photo: min-max normalised, averaged over noises.

    `kinds`: [K, h', w'] float32 each: cross, selfcross, and cbp if enabled. `affinity`: [N, N], of
    the first noise. `constant`: indices of the classes whose map was constant for some noise.
    `unboxed`: indices of the classes whose boxes were empty, once per noise. `records`: of each
    noise, if requested.
    """

    kinds: dict[str, torch.Tensor]
    affinity: torch.Tensor | None
    constant: set[int]
    unboxed: list[int]
    records: list[Record] = field(default_factory=list)


def sample_noise(shape: Sequence[int], *names: object) -> torch.Tensor:
    """Standard normal noise seeded by names alone, such as run seed, image id and noise index."""
    return torch.randn(tuple(shape), generator=generator_of(*names))


def fit_of(image: np.ndarray, backbone: Backbone, options: Options) -> Fit:
    height, width = image.shape[:2]
    if options.resize == "official":
        return official_fit(height, width)
    if options.resize == "native":
        return native_fit(height, width, max(backbone.size), backbone.multiple)
    return own_fit(height, width, backbone.multiple)


def queries_of(
    backbone: Backbone, classes: list[str], options: Options
) -> list[tuple[list[int], Query]]:
    """The queries of an image, each with the indices in `classes` that it covers, in their order.

    Classes that exceed the text encoder's window in one sentence are asked for in halves, and so on.
    """

    def ask(columns: list[int]) -> list[tuple[list[int], Query]]:
        query = text_query(
            [classes[c] for c in columns],
            synonyms=options.query.synonyms,
            background=options.query.background_words,
            profile=options.profile,
            vocabulary=options.vocabulary,
        )
        if len(columns) > 1:
            try:
                backbone.token_positions(query)
            except TooLong:
                half = (len(columns) + 1) // 2
                return ask(columns[:half]) + ask(columns[half:])
            except UserError:
                pass  # `query_maps` says it with the photo's name
        return [(columns, query)]

    columns = list(range(len(classes)))
    return ask(columns) if options.query.composed else [q for c in columns for q in ask([c])]


@torch.no_grad()
def extract(
    backbone: Backbone,
    samples: Sequence[Sample],
    options: Options,
    batch_size: int = 16,
    progress: Callable[[Iterable], Iterable] = iter,
    *,
    with_self: bool = False,
) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Extract attention maps of photos; `with_self`: and "<id>/self", [N, N] float16, of the first noise.

    Returns:
        The maps "<id>/cross" and "<id>/selfcross", [K, h', w'] float16 in [0, 1]: min-max
        normalised, averaged over noises, absent for a sample without classes. And one manifest entry
        per sample: `skipped` lists the classes whose map was constant for some noise, where it
        counts as 0; `unboxed` counts the maps that the official box mask would have emptied;
        `sentences` counts the queries that its classes took.

    Raises:
        UserError: if a single class exceeds the text encoder's window; the message names the sample.
    """
    fits = [fit_of(sample.image, backbone, options) for sample in samples]
    sizes = {i: fits[i].padded for i, sample in enumerate(samples) if sample.classes}
    encoding, passes = Batches(batch_size, "photo"), Batches(batch_size, "U-Net pass")
    tensors: dict[str, torch.Tensor] = {}
    items = [
        {
            "id": sample.id,
            "classes": sample.classes,
            "image_size": list(sample.image.shape[:2]),
            "content": list(fit.content),
            "padded": list(fit.padded),
            "grid": None,
            "noises": options.noises,
            "skipped": [],
            "unboxed": 0,
            "sentences": 0,
        }
        for sample, fit in zip(samples, fits, strict=True)
    ]
    for batch in progress(_alike(sizes, batch_size)):
        views = views_of(backbone, [samples[i] for i in batch], options, encoding)
        units = [
            (i, view, columns, query)
            for i, view in zip(batch, views, strict=True)
            for columns, query in queries_of(backbone, samples[i].classes, options)
        ]
        found = query_maps(
            backbone,
            [(view, query) for _, view, _, query in units],
            options,
            passes,
            with_affinity=with_self,
        )
        for (i, _, columns, _), maps in zip(units, found, strict=True):
            for kind, values in maps.kinds.items():
                whole = tensors.setdefault(
                    f"{samples[i].id}/{kind}",
                    torch.zeros(len(samples[i].classes), *values.shape[1:], dtype=torch.half),
                )
                whole[columns] = values.half()
                items[i]["grid"] = list(values.shape[1:])
            if maps.affinity is not None:
                tensors.setdefault(f"{samples[i].id}/self", maps.affinity.half())
            items[i]["sentences"] += 1
            items[i]["unboxed"] += len(maps.unboxed)
            items[i]["skipped"] += [samples[i].classes[columns[k]] for k in sorted(maps.constant)]
    return tensors, items


def views_of(
    backbone: Backbone,
    samples: Sequence[Sample],
    options: Options,
    batches: Batches | None = None,
) -> list[View]:
    """Encode photos of one input size, one posterior sample each."""

    def encode(part: Sequence[Sample]) -> torch.Tensor:
        fits = [fit_of(sample.image, backbone, options) for sample in part]
        pixels = [model_input(s.image, fit) for s, fit in zip(part, fits, strict=True)]
        posterior = backbone.encode_images(torch.stack(pixels))
        shape = posterior.mean.shape[1:]
        draws = [sample_noise(shape, options.seed, sample.id, "latent") for sample in part]
        return posterior.latents(torch.stack(draws))

    batches = batches or Batches(len(samples), "photo")
    latents = torch.cat([encoded for _, encoded in batches.over(samples, encode)])
    return [
        View(sample.id, sample.image.shape[:2], fit_of(sample.image, backbone, options), latent)
        for sample, latent in zip(samples, latents, strict=True)
    ]


@torch.no_grad()
def query_maps(
    backbone: Backbone,
    pairs: Sequence[tuple[View, Query]],
    options: Options,
    passes: Batches | None = None,
    *,
    edit: Edit | None = None,
    with_affinity: bool = False,
    with_records: bool = False,
    progress: Callable[[Iterable], Iterable] = iter,
) -> list[QueryMaps]:
    """Compute the maps of each query in its photo.

    A map's minimum and maximum are taken inside the photo; in the official profile over the padding,
    too, as in the official code. The noise depends only on the seed and the photo's id.

    Raises:
        UserError: if a query does not fit the text encoder's window, or the attention is not finite;
            the message names the photo.
    """
    passes = passes or Batches(16, "U-Net pass")
    positions = [positions_in(backbone, view, query) for view, query in pairs]
    first = options.tokens == "first"
    if first:
        positions = [[places[:1] for places in classes] for classes in positions]
    texts = encoded(backbone, [query for _, query in pairs], edit)
    output = options.reading == "output"
    concepts = concepts_of(backbone, [query for _, query in pairs], first) if output else None
    if options.query.emphasis != 1:
        texts = emphasised(texts, positions, options.query.emphasis)
    shapes = {i: tuple(view.latents.shape) for i, (view, _) in enumerate(pairs)}
    steps = _alike(shapes, passes.size)  # fixed here: passes may shrink
    results = [QueryMaps({}, None, set(), []) for _ in pairs]

    def maps_of(part: Sequence[tuple[int, int]]) -> list:
        latents = torch.stack([pairs[i][0].latents for i, _ in part])
        noise = [sample_noise(latents.shape[1:], options.seed, pairs[i][0].id, n) for i, n in part]
        return attention_maps(
            backbone,
            backbone.add_noise(latents, torch.stack(noise), options.timestep),
            options.timestep,
            texts[[i for i, _ in part]],
            [positions[i] for i, _ in part],
            cross_blocks=options.cross_blocks,
            self_block=options.self_block,
            iterations=options.iterations,
            entropy_step=options.entropy_step,
            box_threshold=options.box_threshold,
            with_affinity=with_affinity or options.cbp,
            concepts=None if concepts is None else concepts[[i for i, _ in part]],
            with_record=with_records,
        )

    for step in progress(steps):
        jobs = [(i, n) for i in step for n in range(options.noises)]
        for part, found in passes.over(jobs, maps_of):
            for (i, n), maps in zip(part, found, strict=True):
                check_finite(
                    "the attention is", [f"image {pairs[i][0].id}"], backbone.dtype,
                    maps.selfcross[None], maps.cross[None],
                )  # fmt: skip
                _add(results[i], maps, pairs[i][0].fit, options)
                if with_affinity and n == 0:
                    results[i].affinity = maps.affinity
    for result in results:
        result.kinds = {kind: total / options.noises for kind, total in result.kinds.items()}
    return results


def _alike(shapes: Mapping[int, tuple[int, ...]], count: int) -> list[list[int]]:
    """The keys in lists of equal shapes, of at most `count`."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for i, shape in shapes.items():
        groups.setdefault(shape, []).append(i)
    return [
        members[start : start + count]
        for members in groups.values()
        for start in range(0, len(members), count)
    ]


def _add(result: QueryMaps, maps: AttentionMaps, fit: Fit, options: Options) -> None:
    """Add the maps of one noise, min-max normalised, to those of a query."""
    inside = in_photo(maps.cross.shape[1:], fit) if options.profile == "paper" else None
    kinds = {"cross": min_max(maps.cross, inside), "selfcross": min_max(maps.selfcross, inside)}
    if options.cbp:
        assert maps.affinity is not None  # it was asked for
        kinds["cbp"] = cbp_scores(maps.affinity, maps.cross, seed=options.seed)
    for kind, values in kinds.items():
        result.kinds[kind] = result.kinds.get(kind, 0) + values
    flat = kinds["selfcross"].flatten(1).amax(1) == 0
    result.constant.update(flat.nonzero().flatten().tolist())
    result.unboxed.extend(maps.unboxed)
    if maps.record is not None:
        result.records.append(maps.record)


def positions_in(backbone: Backbone, view: View, query: Query) -> Positions:
    try:
        return backbone.token_positions(query)
    except UserError as error:
        raise UserError(f"image {view.id}: {error}") from None


def encoded(backbone: Backbone, queries: Sequence[Query], edit: Edit | None) -> Text:
    texts = backbone.encode_text([query.text for query in queries])
    if edit is None:
        return texts
    rows = [edit(row, query) for row, query in zip(texts.hidden, queries, strict=True)]
    return replace(texts, hidden=torch.stack(rows))


def emphasised(text: Text, positions: Sequence[Positions], factor: float) -> Text:
    """Encoded texts with the tokens of classes multiplied by a factor."""
    hidden = text.hidden.clone()
    for row, classes in zip(hidden, positions, strict=True):
        row[[position for tokens in classes for position in tokens]] *= factor
    return replace(text, hidden=hidden)
