"""Images as latents of an autoencoder; a family of models inherits it."""

import numpy as np
import torch
from diffusers import AutoencoderKL, ModelMixin

from attnseg.backbones.interface import Posterior
from attnseg.core.finite import check_finite


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
    def shift(self) -> float:
        return self.vae.config.get("shift_factor") or 0.0

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
        return Posterior(mean, std, self.vae.config.scaling_factor, self.shift)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        latents = latents / self.vae.config.scaling_factor + self.shift
        latents = latents.to(self.vae.device, self.vae.dtype)
        return pixels_of(self.vae.decode(latents).sample)


def pixels_of(decoded: torch.Tensor) -> np.ndarray:
    """A decoder's output [B, 3, H, W] in [-1, 1] as images [B, H, W, 3] uint8.

    Raises:
        UserError: where it is not finite, as of an overflow, which would be black.
    """
    numbers = [f"image {row} of {len(decoded)}" for row in range(1, len(decoded) + 1)]
    check_finite("what the decoder draws is", numbers, decoded.dtype, decoded)
    pixels = (decoded.float() * 127.5 + 127.5).clamp(0, 255).round()
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()


def packed(latents: torch.Tensor) -> torch.Tensor:
    """2 x 2 latent cells each in a token: [B, C, 2 h, 2 w] -> [B, h w, 4 C]."""
    cells = latents.unflatten(3, (-1, 2)).unflatten(2, (-1, 2))  # [B, C, h, 2, w, 2]
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpacked(tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """The inverse of `packed`: [B, h w, 4 C] -> [B, C, 2 h, 2 w] for the grid (h, w)."""
    cells = tokens.unflatten(1, grid).unflatten(3, (-1, 2, 2))  # [B, h, w, C, 2, 2]
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
