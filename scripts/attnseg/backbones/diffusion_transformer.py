"""What families whose denoising network is a transformer share."""

import functools

import torch
from diffusers import ModelMixin

from attnseg.backbones.interface import Attention, Block, Denoiser
from attnseg.backbones.latents import KLLatents


class TransformerNetwork:
    """A mixin: the denoising network is a transformer."""

    transformer: ModelMixin

    @property
    def network(self) -> ModelMixin:
        return self.transformer

    @property
    def device(self) -> torch.device:
        return self.transformer.device

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.dtype


class CrossTransformer(TransformerNetwork, KLLatents, Denoiser):
    """A transformer with blocks of `attn1`, of the roles in `roles`, and `attn2`, one grid for all: they
    attend to the image and then to the text."""

    roles: tuple[tuple[str, str], ...] = (("self", "attn1"), ("cross", "attn2"))

    @property
    def multiple(self) -> int:
        return self.vae_scale_factor * self.transformer.config.patch_size

    @functools.cached_property
    def blocks(self) -> dict[Block, Attention]:
        halvings = self.transformer.config.patch_size.bit_length() - 1
        return {
            Block(number, role): Attention(getattr(block, name), halvings)
            for number, block in enumerate(self.transformer.transformer_blocks)
            for role, name in self.roles
        }
