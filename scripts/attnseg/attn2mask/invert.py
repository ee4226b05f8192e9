"""Null-text inversion: a sampling trajectory that ends in a given photo (Mokady et al. 2022).

DDIM inversion without guidance yields the pivot trajectory. Then, at each sampling step, the
embedding of the empty text is optimised until the guided step meets the pivot. Attention is recorded
on the resulting trajectory (attn2mask, section "Stable-Diffusion attention on real images?").
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from attnseg.attn2mask.generate import class_maps
from attnseg.backbones.interface import Backbone, Text
from attnseg.settings import InversionJob

# loss at which a step's optimisation stops, and its increase per step (Mokady et al.)
TOLERANCE, TOLERANCE_GROWTH = 1e-5, 2e-5


@dataclass
class Inverted:
    """The inversion of a batch of photos."""

    latents: list[torch.Tensor]  # steps + 1 of [B, C, h, w], from noise to image
    cross: torch.Tensor  # class maps [B, K, h', w'] float32


def ddim_schedulers(scheduler, steps: int) -> tuple[DDIMScheduler, DDIMInverseScheduler]:
    """Schedulers of DDIM sampling and DDIM inversion with a model's noise schedule.

    A step of either connects a timestep with the next less noisy one, with the network's output at
    the noisier of the two. Below timestep 0, alpha_bar is that of timestep 0 (`set_alpha_to_one`).
    """
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
    blocks = backbone.select(inversion.cross_blocks)
    ddim, inverse = ddim_schedulers(backbone.scheduler, inversion.steps)
    with torch.no_grad():
        text = backbone.encode_text(prompts)
        null = backbone.encode_text([""] * len(prompts))
    pivot = ddim_inversion(backbone, latents.float().to(backbone.device), text, inverse)
    timesteps = ddim.timesteps.tolist()
    reading = nearest_timestep(timesteps, inversion.timestep)
    current, trajectory, cross = pivot[-1], [pivot[-1]], None
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
