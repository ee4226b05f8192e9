"""What families whose denoising network is a transformer share."""

import functools

import torch
from diffusers import AutoencoderKL, AutoencoderKLFlux2, ModelMixin

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


class JointTransformer(TransformerNetwork):
    """A transformer in all of whose blocks text and image attend jointly, on one grid."""

    halvings = 1  # of the latent's grid: a token is 2 x 2 of its cells

    @property
    def attentions(self) -> list[torch.nn.Module]:
        """The modules of attention, in forward order."""
        return [block.attn for block in self.transformer.transformer_blocks]

    @functools.cached_property
    def blocks(self) -> dict[Block, Attention]:
        return {
            Block(number, "joint"): Attention(module, self.halvings)
            for number, module in enumerate(self.attentions)
        }

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], int]:
        """At the depth that is Seg4Diff's of Stable Diffusion 3; none is published of this model."""
        best = 9 * len(self.blocks) // 24
        return (best,), best


class FluxTransformer(JointTransformer):
    """FLUX's: blocks are numbered from the double ones, in which text and image have weights of their
    own, on to the single ones, in which they are one sequence."""

    vae: AutoencoderKL | AutoencoderKLFlux2

    @property
    def size(self) -> tuple[int, int]:
        return self.vae.config.sample_size, self.vae.config.sample_size

    @property
    def attentions(self) -> list[torch.nn.Module]:
        network = self.transformer
        blocks = [*network.transformer_blocks, *network.single_transformer_blocks]
        return [block.attn for block in blocks]

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], int]:
        """All, and of 57 the 12th for the propagation, as GoCA of FLUX.1, which has the 18th as well."""
        count = len(self.blocks)
        return tuple(range(count)), 12 * count // 57


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
