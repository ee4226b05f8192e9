"""Generate images from text, and record their cross-attention (attn2mask).

DDPM sampling with classifier-free guidance. Cross-attention is recorded at one step, in the
conditional branch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler, SchedulerMixin
from PIL import Image

from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.backbones.capture import Seen
from attnseg.backbones.interface import Backbone, Block
from attnseg.backbones.noise import check_ddpm
from attnseg.backbones.text import Query
from attnseg.core.attention import cross_map, on_one_grid, token_weights
from attnseg.core.finite import check_finite
from attnseg.errors import UserError, some
from attnseg.io.files import fingerprint, write_atomically
from attnseg.io.shard_parts import ShardPart
from attnseg.settings import Generation


@dataclass
class Generated:
    """One sample: `image` [H, W, 3] uint8 and `cross` [K, h, w] float32, before normalisation.

    `skipped` is the reason why there is neither.
    """

    prompt: Prompt
    image: np.ndarray | None = None
    cross: torch.Tensor | None = None
    skipped: str | None = None


def check_sampling(sampling: Generation) -> None:
    if not 1 <= sampling.attention_step <= sampling.steps:
        raise UserError(
            f"attention_step is {sampling.attention_step} of {sampling.steps} steps: "
            f"choose a step from 1 to {sampling.steps}"
        )


def ddpm_scheduler(scheduler: SchedulerMixin, steps: int) -> DDPMScheduler:
    """DDPM on the noise schedule of a model's own scheduler, its timesteps spread evenly."""
    check_ddpm(scheduler)
    ddpm = DDPMScheduler.from_config(
        scheduler.config, clip_sample=False, timestep_spacing="leading", variance_type="fixed_small"
    )
    ddpm.set_timesteps(steps)
    return ddpm


def class_maps(
    seen: Mapping[Block, Seen], positions: Sequence, length: int, latents: torch.Tensor
) -> torch.Tensor:
    """Class maps averaged over recorded blocks, on the finest of their grids: [B, K, h, w] float32.

    Args:
        seen: recorded attention of at least B rows, of which the last B are used.
        positions: token positions per sample and class, as `token_weights` takes them.
        length: number of tokens of the encoded texts.
        latents: [B, C, h, w], for the size of the grids.
    """
    rows = slice(-len(positions), None)
    weights = token_weights(positions, length).to(latents.device)
    maps = []
    for query, key, mask in (block.inputs(rows) for block in seen.values()):
        maps.append(cross_map(query, key, weights, mask))
    return on_one_grid(maps, (latents.shape[-2], latents.shape[-1])).mean(0)


def class_positions(backbone: Backbone, prompt: Prompt) -> list[list[int]]:
    """Token positions of each class, over all its mentions (Equation 4).

    Mentions past the text encoder's window are ignored if another one is inside.

    Raises:
        UserError: if the prompt names no class, or all mentions of a class are past the window.
    """
    if not prompt.classes:
        raise UserError("the prompt names no class")
    positions = []
    for spans in prompt.spans:
        found, problem = set(), None
        for start, end in spans:
            try:
                found.update(backbone.token_positions(Query(prompt.prompt, ((start, end),)))[0])
            except UserError as error:
                problem = problem or error
        if not found:
            raise problem or UserError("a class without a span in the prompt: build it again")
        positions.append(sorted(found))
    return positions


@torch.no_grad()
def sample_latents(
    backbone: Backbone,
    prompts: Sequence[Prompt],
    positions: list[list[list[int]]],
    sampling: Generation,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Final latents [B, C, h, w] and class maps [B, K, h', w'] of one batch, both float32.

    Each sample has its own CPU generator with the prompt's seed, so that its noise depends neither
    on the rest of the batch nor on the device.
    """
    scheduler = ddpm_scheduler(backbone.scheduler, sampling.steps)
    generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    shape = backbone.shape_of((sampling.size, sampling.size) if sampling.size else None)
    latents = torch.stack([torch.randn(shape, generator=g) for g in generators])
    latents = latents.to(backbone.device)
    text = backbone.encode_text([""] * len(prompts) + [prompt.prompt for prompt in prompts])
    (blocks, _), maps = backbone.select(sampling.cross_blocks), torch.empty(0)
    for index, t in enumerate(scheduler.timesteps.tolist()):
        doubled = torch.cat([latents, latents])
        if index == sampling.attention_step - 1:
            with backbone.record(blocks, stop=False) as seen:
                noise = backbone.denoise(doubled, t, text)
            maps = class_maps(seen, positions, text.hidden.shape[1], latents)
            seen.clear()
        else:
            noise = backbone.denoise(doubled, t, text)
        without, given = noise.chunk(2)
        guided = without + sampling.guidance * (given - without)
        latents = scheduler.step(guided, t, latents, generator=generators).prev_sample
    return latents, maps


def generate(
    backbone: Backbone, prompts: Sequence[Prompt], sampling: Generation, batch_size: int = 8
) -> Iterator[list[Generated]]:
    """Generate images and class maps; yield one list per batch.

    A sample is skipped if its prompt names no class, or a class is past the text encoder's window.
    Results depend on the batch size only through rounding.

    Raises:
        UserError: if the attention step, a block or the size is invalid for the model, or a sample is
            not finite.
    """
    check_sampling(sampling)
    backbone.select(sampling.cross_blocks)
    backbone.shape_of((sampling.size, sampling.size) if sampling.size else None)
    for start in range(0, len(prompts), batch_size):
        results, usable, positions = [], [], []
        for prompt in prompts[start : start + batch_size]:
            results.append(Generated(prompt))
            try:
                positions.append(class_positions(backbone, prompt))
                usable.append(results[-1])
            except UserError as error:
                results[-1].skipped = str(error)
        if usable:
            latents, maps = sample_latents(
                backbone, [r.prompt for r in usable], positions, sampling
            )
            images = drawn(backbone, [r.prompt.id for r in usable], latents, maps)
            for row, result in enumerate(usable):
                result.image = images[row]
                result.cross = maps[row, : len(result.prompt.classes)].cpu()
        yield results


def drawn(
    backbone: Backbone, names: Sequence[str], latents: torch.Tensor, maps: torch.Tensor
) -> np.ndarray:
    """Decode the latents of the samples `names`: [B, C, h, w] -> [B, H, W, 3] uint8.

    Raises:
        UserError: where latents, maps or images are not finite; the message names the sample, or the
            batch.
    """
    check_finite("the latents and attention are", names, backbone.dtype, latents, maps)
    try:
        return backbone.decode(latents)
    except UserError as error:
        raise UserError(f"{some(names, len(names))}: {error}") from None


def manifest_item(prompt: Prompt, result: Generated, image: str) -> dict:
    """One sample's entry; a skipped one has no image and the reason in `skipped`."""
    entry = {
        "id": prompt.id,
        "prompt": prompt.prompt,
        "classes": prompt.classes,
        "seed": prompt.seed,
    }
    if result.image is None or result.cross is None:
        return entry | {
            "image": None,
            "image_size": None,
            "grid": None,
            "skipped": [result.skipped],
        }
    return entry | {
        "image": image,
        "image_size": list(result.image.shape[:2]),
        "grid": list(result.cross.shape[1:]),
        "skipped": [],
    }


def save_images(results: list[Generated], images: Path, suffix: str) -> ShardPart:
    """Write a batch's images; returns its maps and manifest items."""
    tensors, items = {}, []
    for result in results:
        name = f"{result.prompt.id}.{suffix}"
        items.append(manifest_item(result.prompt, result, name))
        if result.image is not None and result.cross is not None:
            tensors[f"{result.prompt.id}/cross"] = result.cross.half()
            with write_atomically(images / name) as partial:
                options: dict[str, Any] = (
                    {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
                )
                Image.fromarray(result.image).save(partial, **options)
            items[-1]["photo"] = fingerprint(images / name)
    return tensors, items
