"""Null-text inversion: a sampling trajectory that ends in a given photo (Mokady et al. 2022).

DDIM inversion without guidance gives a pivot trajectory. Then, one step of sampling after the
other, the embedding of the empty text is tuned until the guided step meets the pivot. Attention is
read on the trajectory so recovered (attn2mask, Stable-Diffusion attention on real images?).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler

from attnseg.diffusion.attention import token_weights, watched
from attnseg.diffusion.generate import averaged_cross, blocks_of, text_states
from attnseg.settings import InversionJob

# a step's loss at which it stops, larger at each later step (Mokady et al.'s)
TOLERANCE, TOLERANCE_GROWTH = 1e-5, 2e-5


@dataclass
class Inverted:
    """Of one batch. `latents`: the recovered trajectory, from noise to image, steps + 1 of
    [B, C, h, w]. `cross`: class maps [B, K, h', w'] float32, read on it."""

    latents: list[torch.Tensor]
    cross: torch.Tensor


class Ddim:
    """The deterministic step of DDIM in both directions (eta 0), on a model's noise schedule."""

    def __init__(self, scheduler, steps: int):
        ddim = DDIMScheduler.from_config(
            scheduler.config, clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading"
        )
        ddim.set_timesteps(steps)
        self.timesteps = ddim.timesteps.tolist()  # falling
        self.stride = ddim.config.num_train_timesteps // steps
        self.abar = ddim.alphas_cumprod
        self.velocity = ddim.config.prediction_type == "v_prediction"

    def abar_at(self, t: int) -> torch.Tensor:
        """The share of signal; before the first timestep, that of the first."""
        return self.abar[max(t, 0)]

    def clean_and_noise(self, output: torch.Tensor, t: int, latents: torch.Tensor) -> tuple:
        a = self.abar_at(t)
        if self.velocity:
            clean = a.sqrt() * latents - (1 - a).sqrt() * output
            return clean, a.sqrt() * output + (1 - a).sqrt() * latents
        return (latents - (1 - a).sqrt() * output) / a.sqrt(), output

    def moved(self, output: torch.Tensor, start: int, end: int, latents: torch.Tensor):
        """Latents at timestep `end` from those at `start` and the network's output there."""
        clean, noise = self.clean_and_noise(output, start, latents)
        a = self.abar_at(end)
        return a.sqrt() * clean + (1 - a).sqrt() * noise

    def denoised(self, output: torch.Tensor, t: int, latents: torch.Tensor) -> torch.Tensor:
        return self.moved(output, t, t - self.stride, latents)

    def noised(self, output: torch.Tensor, t: int, latents: torch.Tensor) -> torch.Tensor:
        """From the timestep before `t` to `t`, with the network's output at `t`."""
        return self.moved(output, t - self.stride, t, latents)


def predicted(unet, latents: torch.Tensor, t: int, text: torch.Tensor) -> torch.Tensor:
    """The U-Net's output in float32."""
    return unet(latents.to(unet.dtype), t, encoder_hidden_states=text.to(unet.dtype)).sample.float()


@torch.no_grad()
def ddim_inversion(
    unet, latents: torch.Tensor, text: torch.Tensor, ddim: Ddim
) -> list[torch.Tensor]:
    """The pivot: latents from the photo's own to noise, steps + 1 of [B, C, h, w], no guidance."""
    trajectory = [latents]
    for t in reversed(ddim.timesteps):
        latents = ddim.noised(predicted(unet, latents, t, text), t, latents)
        trajectory.append(latents)
    return trajectory


def nearest_timestep(timesteps: Sequence[int], wanted: int) -> int:
    """The index of the timestep nearest to the wanted one, the noisier of two equal ones."""
    return min(range(len(timesteps)), key=lambda i: (abs(timesteps[i] - wanted), i))


def tuned_null_text(
    unet, latents, target, given, null, t: int, ddim: Ddim, inversion: InversionJob, index: int
) -> torch.Tensor:
    """The null embeddings [B, L, D] whose guided step from `latents` meets `target`.

    Each sample stops by itself at its tolerance, so that its neighbours do not matter.
    """
    null = null.detach().clone().requires_grad_(True)
    rate = inversion.learning_rate * (1 - index / (2 * inversion.steps))
    optimizer = torch.optim.Adam([null], rate)
    running = torch.ones(len(latents), dtype=torch.bool, device=latents.device)
    losses = torch.full((len(latents),), torch.nan, device=latents.device)
    tolerance = TOLERANCE + index * TOLERANCE_GROWTH
    for _ in range(inversion.inner_iterations):
        without = predicted(unet, latents, t, null)
        moved = ddim.denoised(without + inversion.guidance * (given - without), t, latents)
        each = (moved - target).square().mean((1, 2, 3))
        losses = torch.where(running, each.detach(), losses)
        (null.grad,) = torch.autograd.grad(each.sum(), null)
        before = null.detach().clone()
        optimizer.step()
        with torch.no_grad():
            null[~running] = before[~running]
        running &= ~(losses < tolerance)
        if not running.any():
            break
    return null.detach()


def invert(
    parts,
    latents: torch.Tensor,
    prompts: Sequence[str],
    positions: Sequence[Sequence[Sequence[int]]],
    inversion: InversionJob,
) -> Inverted:
    """Invert photos given as scaled latents [B, C, h, w]; `positions` as in `token_weights`.

    `inner_iterations` 0 leaves the null text as it is: plain DDIM inversion under guidance.

    Raises:
        UserError: for a cross-attention block that the U-Net does not have.
    """
    unet = parts.unet.requires_grad_(False)
    blocks = blocks_of(unet, inversion.cross_blocks)
    ddim = Ddim(parts.scheduler, inversion.steps)
    latents = latents.float().to(unet.device)
    text = text_states(parts, prompts)
    null = text_states(parts, [""] * len(prompts)).float()
    weights = token_weights(positions, text.shape[1]).to(unet.device)
    pivot = ddim_inversion(unet, latents, text, ddim)
    reading = nearest_timestep(ddim.timesteps, inversion.timestep)
    current, trajectory, cross = pivot[-1], [pivot[-1]], None
    for index, t in enumerate(ddim.timesteps):
        with torch.no_grad():
            if index == reading:
                with watched(unet, blocks, None, stop=False) as (watches, _):
                    given = predicted(unet, current, t, text)
                cross = averaged_cross(watches, slice(None), weights, current.shape[-2:])
                del watches
            else:
                given = predicted(unet, current, t, text)
        null = tuned_null_text(
            unet, current, pivot[-2 - index], given, null, t, ddim, inversion, index
        )
        with torch.no_grad():
            without = predicted(unet, current, t, null)
            current = ddim.denoised(without + inversion.guidance * (given - without), t, current)
        trajectory.append(current)
    return Inverted(trajectory, cross)


def psnr(a: torch.Tensor, b: torch.Tensor, peak: float = 255.0) -> torch.Tensor:
    """Peak signal-to-noise ratio of images [B, ...] in dB: [B]."""
    error = (a.float() - b.float()).square().flatten(1).mean(1)
    return 10 * torch.log10(peak**2 / error.clamp_min(1e-10))
