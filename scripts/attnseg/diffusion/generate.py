"""Images from text together with the cross-attention that made them (attn2mask).

DDPM sampling with classifier-free guidance. Cross-attention is read at one step, from the
conditional branch; all other steps run on the U-Net's own fast attention.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler

from attnseg.diffusion.attention import (
    cross_map,
    describe_blocks,
    grid_of,
    resize,
    token_weights,
    transformer_blocks,
    watched,
)
from attnseg.errors import UserError
from attnseg.prompt_sets import Prompt, class_positions
from attnseg.prompts import encode_text
from attnseg.settings import Generation


@dataclass
class Generated:
    """One sample: `image` [H, W, 3] uint8 and `cross` [K, h, w] float32, before any min-max.

    Where it was `skipped` (the reason), neither is there.
    """

    prompt: Prompt
    image: np.ndarray | None = None
    cross: torch.Tensor | None = None
    skipped: str | None = None


def check_sampling(sampling: Generation) -> None:
    if not 1 <= sampling.attention_step <= sampling.steps:
        raise UserError(
            f"attention is asked for at step {sampling.attention_step} of {sampling.steps}: "
            "choose a step between the first and the last"
        )


def ddpm_scheduler(scheduler, steps: int) -> DDPMScheduler:
    """DDPM on the noise schedule of a model's own scheduler, its timesteps spread evenly."""
    ddpm = DDPMScheduler.from_config(
        scheduler.config, clip_sample=False, timestep_spacing="leading", variance_type="fixed_small"
    )
    ddpm.set_timesteps(steps)
    return ddpm


def averaged_cross(
    watches: dict, rows: slice, weights: torch.Tensor, latent: tuple
) -> torch.Tensor:
    """Class maps averaged over watched blocks, on the finest of their grids: [B, K, h, w] float32.

    `weights`: [B, L, K] of `token_weights`. `latent`: its height and width. `rows`: which of the
    batch.
    """
    cells = max(watch.query.shape[2] for watch in watches.values())
    grid = grid_of(cells, *latent)
    total = sum(
        resize(cross_map(watch.query[rows], watch.key[rows], weights), latent, grid)
        for watch in watches.values()
    )
    return total / len(watches)


def blocks_of(unet: torch.nn.Module, cross_blocks: Sequence[int] | None) -> tuple[int, ...]:
    """The blocks to watch, all for None.

    Raises:
        UserError: for a block that the U-Net does not have.
    """
    count = len(transformer_blocks(unet))
    blocks = tuple(range(count)) if cross_blocks is None else tuple(cross_blocks)
    wrong = [block for block in blocks if not 0 <= block < count]
    if wrong or not blocks:
        raise UserError(
            f"cross-attention blocks {wrong or 'none'}: this U-Net has blocks 0 to {count - 1} "
            f"({describe_blocks(unet)}); set generation.cross_blocks"
        )
    return blocks


def latent_shape(parts, size: int | None) -> tuple[int, int, int]:
    """Channels, height and width of the latents of images of a side (None: the model's own)."""
    factor = parts.factor
    side = parts.unet.config.sample_size
    own = (side, side) if isinstance(side, int) else tuple(side)
    height, width = own if size is None else (size // factor, size // factor)
    multiple = 2 ** (len(parts.unet.config.block_out_channels) - 1)
    if size is not None and size % (factor * multiple):
        raise UserError(
            f"images of {size}x{size} pixels: this model's sides are multiples of "
            f"{factor * multiple}"
        )
    return parts.unet.config.in_channels, height, width


@torch.no_grad()
def text_states(parts, texts: Sequence[str]) -> torch.Tensor:
    """Text embeddings [B, L, D]."""
    return parts.text_encoder(encode_text(parts.tokenizer, texts, parts.text_encoder.device))[0]


@torch.no_grad()
def sample_latents(
    parts, prompts: Sequence[Prompt], positions: list[list[list[int]]], sampling: Generation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Final latents [B, C, h, w] and class maps [B, K, h', w'] of one batch, both float32.

    All noise of a sample comes from its own generator, on the CPU, seeded with the prompt's seed:
    neither its neighbours nor the device change it.
    """
    unet = parts.unet
    scheduler = ddpm_scheduler(parts.scheduler, sampling.steps)
    generators = [torch.Generator().manual_seed(prompt.seed) for prompt in prompts]
    shape = latent_shape(parts, sampling.size)
    latents = torch.stack([torch.randn(shape, generator=g) for g in generators]).to(unet.device)
    text = text_states(parts, [""] * len(prompts) + [prompt.prompt for prompt in prompts])
    weights = token_weights(positions, text.shape[1]).to(unet.device)
    text = text.to(unet.dtype)
    blocks, conditional = blocks_of(unet, sampling.cross_blocks), slice(len(prompts), None)
    maps = None
    for index, t in enumerate(scheduler.timesteps.tolist()):
        doubled = torch.cat([latents, latents]).to(unet.dtype)
        if index == sampling.attention_step - 1:
            with watched(unet, blocks, None, stop=False) as (watches, _):
                noise = unet(doubled, t, encoder_hidden_states=text).sample
            maps = averaged_cross(watches, conditional, weights, shape[1:])
            del watches
        else:
            noise = unet(doubled, t, encoder_hidden_states=text).sample
        without, given = noise.float().chunk(2)
        guided = without + sampling.guidance * (given - without)
        latents = scheduler.step(guided, t, latents, generator=generators).prev_sample
    return latents, maps


@torch.no_grad()
def decode(parts, latents: torch.Tensor) -> np.ndarray:
    """Scaled latents [B, C, h, w] -> images [B, H, W, 3] uint8."""
    vae = parts.vae
    pixels = vae.decode((latents / vae.config.scaling_factor).to(vae.device, vae.dtype)).sample
    pixels = (pixels.float() * 127.5 + 127.5).clamp(0, 255).round()
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()


def generate(
    parts, prompts: Sequence[Prompt], sampling: Generation, batch_size: int = 8
) -> Iterator[list[Generated]]:
    """Images and class maps, one list a batch.

    A sample is skipped, with its reason, where its prompt names no class, a class's words are past
    the text encoder's window, or its latents are not finite. The result does not depend on the
    batches but for the rounding of the device's kernels.

    Raises:
        UserError: for an attention step, a block or a size that there is not.
    """
    check_sampling(sampling)
    blocks_of(parts.unet, sampling.cross_blocks)
    latent_shape(parts, sampling.size)
    for start in range(0, len(prompts), batch_size):
        results, usable, positions = [], [], []
        for prompt in prompts[start : start + batch_size]:
            results.append(Generated(prompt))
            try:
                positions.append(class_positions(parts.tokenizer, prompt))
                usable.append(results[-1])
            except UserError as error:
                results[-1].skipped = str(error)
        if usable:
            latents, maps = sample_latents(parts, [r.prompt for r in usable], positions, sampling)
            images = decode(parts, latents)
            finite = latents.isfinite().flatten(1).all(1) & maps.isfinite().flatten(1).all(1)
            for row, result in enumerate(usable):
                if finite[row]:
                    result.image = images[row]
                    result.cross = maps[row, : len(result.prompt.classes)].cpu()
                else:
                    result.skipped = "the latents are not finite"
        yield results
