"""Attention of real photos: from a photo and its labels to low-resolution maps (Section 3.4)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from attnseg.batches import Batches
from attnseg.core.maps import min_max
from attnseg.diffusion.attention import attention_maps
from attnseg.diffusion.geometry import (
    Fit,
    in_photo,
    model_input,
    native_fit,
    official_fit,
    own_fit,
)
from attnseg.errors import UserError
from attnseg.masks.clusters import cbp_scores
from attnseg.prompts import USUAL, Query, encode_text, text_query, token_positions
from attnseg.seeds import generator_of
from attnseg.settings import ExtractionJob


class Options(ExtractionJob):
    """How attention is extracted: the settings, and what the data set adds."""

    vocabulary: Any = USUAL  # a Dataset, whose synonyms and background words are used
    box_threshold: float | None = None  # of the official profile

    def identity(self) -> dict:
        return super().identity() | {"vocabulary": self.vocabulary.vocabulary()}


@dataclass
class Sample:
    """A photo [H, W, 3] uint8 and the classes present in it."""

    id: str
    image: np.ndarray
    classes: list[str]


@dataclass
class _Unit:
    """One query of one sample: `columns` are the classes it asks for."""

    sample: int
    columns: list[int]
    tokens: torch.Tensor  # [L]
    positions: list[list[int]]


def sample_noise(shape: Sequence[int], *names: object) -> torch.Tensor:
    """Standard normal noise that depends on the names alone: run seed, image id, noise index."""
    return torch.randn(tuple(shape), generator=generator_of(*names))


def fit_of(image: np.ndarray, parts, options: Options) -> Fit:
    height, width = image.shape[:2]
    if options.resize == "official":
        return official_fit(height, width)
    multiple = parts.factor * 2 ** (len(parts.unet.down_blocks) - 1)
    if options.resize == "native":
        return native_fit(height, width, parts.unet.config.sample_size * parts.factor, multiple)
    return own_fit(height, width, multiple)


def queries_of(classes: list[str], options: Options) -> list[tuple[list[int], Query]]:
    """The queries of an image: the columns (indices in `classes`) each asks for, and its text."""

    def ask(columns: list[int]) -> Query:
        return text_query(
            [classes[c] for c in columns],
            synonyms=options.query.synonyms,
            background=options.query.background_words,
            profile=options.profile,
            vocabulary=options.vocabulary,
        )

    groups = (
        [list(range(len(classes)))]
        if options.query.composed
        else [[c] for c in range(len(classes))]
    )
    return [(columns, ask(columns)) for columns in groups]


@torch.no_grad()
def extract(
    parts,
    samples: Sequence[Sample],
    options: Options,
    batch_size: int = 16,
    progress: Callable[[Iterable], Iterable] = iter,
) -> tuple[dict[str, torch.Tensor], list[dict]]:
    """Maps "<id>/cross", "<id>/selfcross" [K, h', w'] float16, and a manifest entry a sample.

    The maps are means over noises of min-max maps. A sample without classes has none. `skipped`
    names, a sample, the classes whose map was constant in some noise: there it counts as 0. `unboxed`
    counts the maps that the official box mask would have emptied.

    Raises:
        UserError: names the sample where a query does not fit the text encoder's window.
    """
    fits = [fit_of(sample.image, parts, options) for sample in samples]
    groups: dict[tuple[int, int], list[int]] = {}
    for i, sample in enumerate(samples):
        if sample.classes:
            groups.setdefault(fits[i].padded, []).append(i)
    batches = [
        members[start : start + batch_size]
        for members in groups.values()
        for start in range(0, len(members), batch_size)
    ]
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
        }
        for sample, fit in zip(samples, fits, strict=True)
    ]
    for batch in progress(batches):
        photos = [(samples[i], fits[i]) for i in batch]
        latents = encode_photos(parts, photos, options.seed, encoding)
        units = [
            unit
            for row, i in enumerate(batch)
            for unit in units_of(parts, samples[i], row, options)
        ]
        sums = accumulate(parts, photos, latents, units, options, passes)
        for i, (kinds, constant, unboxed) in zip(batch, sums, strict=True):
            for kind, maps in kinds.items():
                tensors[f"{samples[i].id}/{kind}"] = (maps / options.noises).half()
                items[i]["grid"] = list(maps.shape[1:])
            items[i]["unboxed"] = len(unboxed)
            items[i]["skipped"] = [samples[i].classes[c] for c in sorted(constant)]
    return tensors, items


def encode_photos(
    parts, photos: list[tuple[Sample, Fit]], seed: int, batches: Batches | None = None
) -> torch.Tensor:
    """Scaled latents, one posterior sample a photo: [B, C, h, w]."""

    def encode(part: list[tuple[Sample, Fit]]) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = torch.stack([model_input(sample.image, fit) for sample, fit in part])
        posterior = parts.vae.encode(pixels.to(parts.vae.device, parts.vae.dtype)).latent_dist
        return posterior.mean.float().cpu(), posterior.std.float().cpu()

    batches = batches or Batches(len(photos), "photo")
    means, stds = zip(*(encoded for _, encoded in batches.over(photos, encode)), strict=True)
    mean, std = torch.cat(means), torch.cat(stds)
    draws = [sample_noise(mean.shape[1:], seed, sample.id, "latent") for sample, _ in photos]
    return (mean + std * torch.stack(draws)) * parts.vae.config.scaling_factor


def units_of(parts, sample: Sample, row: int, options: Options) -> list[_Unit]:
    """The queries of one sample, with their token positions."""
    units = []
    for columns, query in queries_of(sample.classes, options):
        try:
            positions = token_positions(parts.tokenizer, query)
        except UserError as error:
            raise UserError(f"image {sample.id}: {error}") from None
        units.append(_Unit(row, columns, encode_text(parts.tokenizer, [query.text])[0], positions))
    return units


def accumulate(
    parts,
    photos: list[tuple[Sample, Fit]],
    latents: torch.Tensor,
    units: list[_Unit],
    options: Options,
    batches: Batches,
) -> list[tuple[dict[str, torch.Tensor], set[int], list[int]]]:
    """Per sample the sums over noises of its min-max maps, the classes whose map was constant, and
    those whose boxes were empty, once a noise.

    The minimum and maximum of a map are those inside the photo; in the official profile padding
    counts, as in the authors' code.
    """
    device, dtype = parts.unet.device, parts.unet.dtype
    texts = torch.cat(
        [
            parts.text_encoder(torch.stack([u.tokens for u in units[s : s + 64]]).to(device))[0]
            for s in range(0, len(units), 64)
        ]
    )
    abar = parts.scheduler.alphas_cumprod[options.timestep].float()
    noise = {
        (row, n): sample_noise(latents.shape[1:], options.seed, sample.id, n)
        for row, (sample, _) in enumerate(photos)
        for n in range(options.noises)
    }
    jobs = [(u, n) for u in range(len(units)) for n in range(options.noises)]
    sums: list[tuple[dict[str, torch.Tensor], set[int], list[int]]] = [
        ({}, set(), []) for _ in photos
    ]

    def maps_of(part: list[tuple[int, int]]) -> list:
        noisy = torch.stack(
            [
                abar.sqrt() * latents[units[u].sample]
                + (1 - abar).sqrt() * noise[units[u].sample, n]
                for u, n in part
            ]
        )
        return attention_maps(
            parts.unet,
            noisy.to(device, dtype),
            options.timestep,
            texts[[u for u, _ in part]],
            [units[u].positions for u, _ in part],
            cross_blocks=options.cross_blocks,
            self_block=options.self_block,
            iterations=options.iterations,
            box_threshold=options.box_threshold,
            with_affinity=options.cbp,
        )

    for part, results in batches.over(jobs, maps_of):
        for (u, _), maps in zip(part, results, strict=True):
            unit = units[u]
            kinds, constant, unboxed = sums[unit.sample]
            unboxed.extend(unit.columns[k] for k in maps.unboxed)
            sample, fit = photos[unit.sample]
            inside = None
            if options.profile == "paper":
                inside = in_photo(maps.cross.shape[1:], fit)
            found = {
                "cross": min_max(maps.cross, inside),
                "selfcross": min_max(maps.selfcross, inside),
            }
            if options.cbp:
                found["cbp"] = cbp_scores(maps.affinity, maps.cross, seed=options.seed)
            for kind, values in found.items():
                if kind not in kinds:
                    kinds[kind] = torch.zeros(len(sample.classes), *values.shape[1:])
                kinds[kind][unit.columns] += values
            flat = found["selfcross"].flatten(1).amax(1) == 0
            constant.update(unit.columns[k] for k in flat.nonzero().flatten().tolist())
    return sums
