"""Images as latents of an autoencoder; a family of models inherits it."""

import numpy as np
import torch
from diffusers import AutoencoderKL, ModelMixin

from attnseg.backbones.interface import Posterior


class KLLatents:
    """Latents of an `AutoencoderKL`, of the size that the denoising network was trained on."""

    vae: AutoencoderKL

    @property
    def network(self) -> ModelMixin:
        """The denoising network, whose configuration has `sample_size` and `in_channels`."""
        raise NotImplementedError

    @property
    def vae_scale_factor(self) -> int:
        """Pixels per latent cell, along one side."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size(self) -> tuple[int, int]:
        side = self.network.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return height * self.vae_scale_factor, width * self.vae_scale_factor

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return (
            self.network.config.in_channels,
            size[0] // self.vae_scale_factor,
            size[1] // self.vae_scale_factor,
        )

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Posterior:
        found = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist
        mean, std = found.mean.float().cpu(), found.std.float().cpu()
        return Posterior(mean, std, self.vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.device, self.vae.dtype)
        pixels = (self.vae.decode(latents).sample.float() * 127.5 + 127.5).clamp(0, 255).round()
        return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
