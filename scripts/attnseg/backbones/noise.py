"""Noise as a model was trained on it, by DDPM or flow matching; a family inherits one of them."""

import functools

import torch
from diffusers import DDPMScheduler, SchedulerMixin

from attnseg.errors import UserError


def check_ddpm(scheduler: SchedulerMixin) -> None:
    """Raise a one-line `UserError` for the scheduler of a model that DDPM and DDIM cannot sample."""
    config = scheduler.config
    if "beta_schedule" not in config or config.get("prediction_type") == "flow_prediction":
        raise UserError(
            "images are drawn by DDPM and inverted by DDIM, which a model of flow matching is not made "
            "for: give a Stable Diffusion, SDXL or PixArt"
        )


class DDPMNoise:
    """DDPM: signal and noise by the schedule's betas, whose target is the noise or the velocity."""

    scheduler: SchedulerMixin

    @functools.cached_property
    def noising(self) -> DDPMScheduler:
        return DDPMScheduler.from_config(self.scheduler.config)

    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        timestep = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
        return self.noising.add_noise(latents, noise, timestep)

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        velocity = self.noising.config.prediction_type == "v_prediction"
        return self.noising.get_velocity(latents, noise, timestep) if velocity else noise


class FlowNoise:
    """Flow matching: (1 - s) latents + s noise at s = timestep / 1000; the target is its derivative.

    The timestep is that which the network sees, after any shift. A shift, by the resolution or constant,
    only chooses the timesteps that a sampler visits: the codes of Seg4Diff and ConceptAttention, too,
    look one up in a shifted schedule, and then mix by what they tell the network.
    """

    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        share = torch.as_tensor(timestep, device=latents.device) / 1000
        share = share.expand(len(latents)).view(-1, *[1] * (latents.ndim - 1)).to(latents.dtype)
        return (1 - share) * latents + share * noise

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        return noise - latents
