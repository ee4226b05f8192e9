"""Null-text inversion: a sampling trajectory that ends in a given photo (Mokady et al. 2022).

DDIM inversion without guidance yields the pivot trajectory. Then, at each sampling step, the
embedding of the empty text is optimised until the guided step meets the pivot. Attention is recorded
on the resulting trajectory (attn2mask, section "Stable-Diffusion attention on real images?").
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler, SchedulerMixin
from PIL import Image

from attnseg.attn2mask.generate import class_maps, drawn
from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.noise import check_ddpm
from attnseg.datasets import Dataset
from attnseg.datasets.images import read_image
from attnseg.errors import UserError
from attnseg.io.shard_parts import ShardPart
from attnseg.settings import InversionJob
from attnseg.text2mask.queries import text_query

# loss at which a step's optimisation stops, and its increase per step (Mokady et al.)
TOLERANCE, TOLERANCE_GROWTH = 1e-5, 2e-5


@dataclass
class Inverted:
    """The inversion of a batch of photos."""

    latents: list[torch.Tensor]  # steps + 1 of [B, C, h, w], from noise to image
    cross: torch.Tensor  # class maps [B, K, h', w'] float32


def ddim_schedulers(
    scheduler: SchedulerMixin, steps: int
) -> tuple[DDIMScheduler, DDIMInverseScheduler]:
    """The deterministic steps of DDIM from noise and to it, on a model's noise schedule.

    A step of either connects a timestep with the next less noisy one, with the network's output at
    the noisier of the two. Below timestep 0, alpha_bar is that of timestep 0 (`set_alpha_to_one`).
    """
    check_ddpm(scheduler)
    options = {"clip_sample": False, "set_alpha_to_one": False, "timestep_spacing": "leading"}
    both = [
        c.from_config(scheduler.config, **options) for c in (DDIMScheduler, DDIMInverseScheduler)
    ]
    for ddim in both:
        ddim.set_timesteps(steps)
    return tuple(both)


@torch.no_grad()
def ddim_inversion(
    backbone: Backbone, latents: torch.Tensor, text: Text, inverse: DDIMInverseScheduler
) -> list[torch.Tensor]:
    """Pivot trajectory without guidance: steps + 1 latents [B, C, h, w], from photo to noise."""
    trajectory = [latents]
    for t in inverse.timesteps.tolist():
        output = backbone.denoise(trajectory[-1], t, text)
        trajectory.append(inverse.step(output, t, trajectory[-1]).prev_sample)
    return trajectory


def nearest_timestep(timesteps: Sequence[int], wanted: int) -> int:
    """Index of the timestep nearest to `wanted`; in a tie the noisier one."""
    return min(range(len(timesteps)), key=lambda i: (abs(timesteps[i] - wanted), i))


def tuned_null_text(
    backbone: Backbone,
    latents: torch.Tensor,
    target: torch.Tensor,
    given: torch.Tensor,
    null: Text,
    t: int,
    ddim: DDIMScheduler,
    inversion: InversionJob,
    index: int,
) -> Text:
    """Optimise the null text so that the guided step from `latents` meets `target`.

    Args:
        latents, target: [B, C, h, w].
        given: the denoiser's output for the prompts, [B, C, h, w].
        index: of the step at timestep `t`; it sets the learning rate and the tolerance.

    Each sample stops at the tolerance on its own, so that it does not depend on the rest of the
    batch.
    """
    hidden = null.hidden.detach().float().clone().requires_grad_(True)
    rate = inversion.learning_rate * (1 - index / (2 * inversion.steps))
    optimizer = torch.optim.Adam([hidden], rate)
    running = torch.ones(len(latents), dtype=torch.bool, device=latents.device)
    losses = torch.full((len(latents),), torch.nan, device=latents.device)
    tolerance = TOLERANCE + index * TOLERANCE_GROWTH
    for _ in range(inversion.inner_iterations):
        without = backbone.denoise(latents, t, replace(null, hidden=hidden))
        guided = without + inversion.guidance * (given - without)
        moved = ddim.step(guided, t, latents).prev_sample
        each = (moved - target).square().mean((1, 2, 3))
        losses = torch.where(running, each.detach(), losses)
        (hidden.grad,) = torch.autograd.grad(each.sum(), hidden)
        before = hidden.detach().clone()
        optimizer.step()
        with torch.no_grad():
            hidden[~running] = before[~running]
        running &= ~(losses < tolerance)
        if not running.any():
            break
    return replace(null, hidden=hidden.detach())


def invert(
    backbone: Backbone,
    latents: torch.Tensor,
    prompts: Sequence[str],
    positions: Sequence[Sequence[Sequence[int]]],
    inversion: InversionJob,
) -> Inverted:
    """Invert photos and record their cross-attention.

    Args:
        latents: [B, C, h, w], scaled for the denoiser.
        prompts: one text per photo.
        positions: token positions per photo and class, as in `token_weights`.
        inversion: settings; with `inner_iterations` 0 the null text is not optimised, which is plain
            DDIM inversion with guidance.

    Raises:
        UserError: if the model lacks a cross-attention block.
    """
    blocks, _ = backbone.select(inversion.cross_blocks)
    ddim, inverse = ddim_schedulers(backbone.scheduler, inversion.steps)
    with torch.no_grad():
        text = backbone.encode_text(prompts)
        null = backbone.encode_text([""] * len(prompts))
    pivot = ddim_inversion(backbone, latents.float().to(backbone.device), text, inverse)
    timesteps = ddim.timesteps.tolist()
    reading = nearest_timestep(timesteps, inversion.timestep)
    current, trajectory, cross = pivot[-1], [pivot[-1]], torch.empty(0)
    for index, t in enumerate(timesteps):
        with torch.no_grad():
            if index == reading:
                with backbone.record(blocks, stop=False) as seen:
                    given = backbone.denoise(current, t, text)
                cross = class_maps(seen, positions, text.hidden.shape[1], current)
                seen.clear()
            else:
                given = backbone.denoise(current, t, text)
        null = tuned_null_text(
            backbone, current, pivot[-2 - index], given, null, t, ddim, inversion, index
        )
        with torch.no_grad():
            without = backbone.denoise(current, t, null)
            guided = without + inversion.guidance * (given - without)
            current = ddim.step(guided, t, current).prev_sample
        trajectory.append(current)
    return Inverted(trajectory, cross)


def psnr(a: torch.Tensor, b: torch.Tensor, peak: float = 255.0) -> torch.Tensor:
    """Peak signal-to-noise ratio of images [B, ...] per image, in dB: [B]."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / error.clamp_min(1e-10))


def invert_photos(
    backbone: Backbone,
    dataset: Dataset,
    root: Path,
    split: str,
    source: str | None,
    inversion: InversionJob,
    ids: Sequence[str],
) -> ShardPart:
    """Class maps "<id>/cross" [K, h, w] float16 of photos, and their manifest items."""
    photos = [dataset.image_path(root, image_id, split) for image_id in ids]
    images = [read_image(path) for path in photos]
    folder = root / (dataset.photo_folder(split) or "")
    items = [
        {
            "id": image_id, "prompt": None, "classes": dataset.labels(root, image_id, source, split),
            "image": photo.relative_to(folder).as_posix(), "image_size": list(image.shape[:2]),
            "grid": None, "psnr": None, "skipped": [],
        }
        for image_id, photo, image in zip(ids, photos, images, strict=True)
    ]  # fmt: skip
    return inverted(backbone, images, items, inversion, dataset), items


def inverted(
    backbone: Backbone,
    images: list[np.ndarray],
    items: list[dict],
    inversion: InversionJob,
    vocabulary: Dataset,
) -> dict[str, torch.Tensor]:
    """The class maps of a batch of photos [H, W, 3] uint8; fills in their manifest items."""
    usable, queries, positions = [], [], []
    for row, item in enumerate(items):
        try:
            query = text_query(item["classes"], background=False, vocabulary=vocabulary)
            positions.append(backbone.token_positions(query))
        except UserError as error:
            item["skipped"].append(str(error))
            continue
        queries.append(query)
        usable.append(row)
        item["prompt"] = query.text
    if not usable:
        return {}
    shape = backbone.size[::-1]
    pixels = np.stack([np.asarray(Image.fromarray(images[row]).resize(shape)) for row in usable])
    unit = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = backbone.encode_images(unit).latents()
    result = invert(backbone, latents, [query.text for query in queries], positions, inversion)
    names = [items[row]["id"] for row in usable]
    rebuilt = torch.from_numpy(drawn(backbone, names, result.latents[-1], result.cross))
    errors = psnr(rebuilt, torch.from_numpy(pixels))
    tensors = {}
    for place, row in enumerate(usable):
        maps = result.cross[place, : len(items[row]["classes"])]
        items[row]["grid"] = list(maps.shape[1:])
        items[row]["psnr"] = round(float(errors[place]), 2)
        tensors[f"{items[row]['id']}/cross"] = maps.half().cpu()
    return tensors
