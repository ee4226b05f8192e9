"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a U-Net with self- and cross-attention."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import (
    AutoencoderKL,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention import BasicTransformerBlock
from transformers import CLIPTextModel, CLIPTokenizer

from attnseg.backbones.interface import Attention, Backbone, Block, Denoiser, Resize, Text
from attnseg.backbones.latents import KLLatents
from attnseg.backbones.loading import load_network, load_scheduler, load_tokenizer
from attnseg.backbones.noise import DDPMNoise
from attnseg.backbones.text import Query, encode_text, token_positions
from attnseg.errors import UserError

# Channels of a U-Net's first level from which the layout of weights on a CPU is chosen for speed and memory:
# the miniature keeps its own, as another changes the last bits.
WIDE = 256


@dataclass
class UNet(Denoiser):
    """The denoiser. Blocks are numbered over the whole U-Net; 1.x and 2.x have 16."""

    unet: UNet2DConditionModel

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def dtype(self) -> torch.dtype:
        return self.unet.dtype

    @functools.cached_property
    def blocks(self) -> dict[Block, Attention]:
        depth = len(self.unet.down_blocks)
        parts: list[tuple[Any, int, Any]] = [
            *((module, level, "encoder") for level, module in enumerate(self.unet.down_blocks)),
            (self.unet.mid_block, depth - 1, "middle"),
            *((self.unet.up_blocks[-1 - n], n, "decoder") for n in reversed(range(depth))),
        ]
        transformers = [
            (module, *at)
            for part, *at in parts
            if part is not None
            for module in part.modules()
            if isinstance(module, BasicTransformerBlock)
        ]
        return {
            Block(number, role): Attention(getattr(module, name), *at)
            for number, (module, *at) in enumerate(transformers)
            for role, name in (("self", "attn1"), ("cross", "attn2"))
        }

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        if isinstance(timestep, torch.Tensor):
            timestep = timestep.to(self.device)
        predicted = self.unet(
            noisy.to(**place),
            timestep,
            encoder_hidden_states=text.hidden.to(**place),
            added_cond_kwargs=self.conditions(noisy, text),
        )
        return predicted.sample.float()

    def conditions(self, noisy: torch.Tensor, text: Text) -> dict[str, torch.Tensor] | None:
        """What else the U-Net is told of `noisy` and its texts: of Stable Diffusion nothing."""
        return None


class UNetLatents(KLLatents):
    """Latents of a U-Net's model."""

    unet: UNet2DConditionModel

    @property
    def network(self) -> UNet2DConditionModel:
        return self.unet

    @property
    def multiple(self) -> int:
        return self.vae_scale_factor * 2 ** (len(self.unet.config.block_out_channels) - 1)


@dataclass
class StableDiffusion(DDPMNoise, UNetLatents, UNet, Backbone):
    """A complete model, on one device in one dtype."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()
    passes: int = 0  # of the U-Net, so far

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        text_encoder = load_network(folder, "text_encoder", CLIPTextModel, dtype)
        unet = load_network(folder, "unet", UNet2DConditionModel, dtype).to(device)
        vae = load_network(folder, "vae", AutoencoderKL, dtype).to(device)
        wide = device.type == "cpu" and unet.config.block_out_channels[0] >= WIDE
        converted = [vae.encoder, unet.conv_in] if wide else [unet]  # `denoise` converts the rest
        for network in converted:
            network.to(memory_format=torch.channels_last)
        return cls(
            tokenizer=load_tokenizer(folder, "tokenizer", CLIPTokenizer),
            text_encoder=text_encoder.to(device),
            vae=vae,
            unet=unet,
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        """As of `UNet`. Convolutions convert weights that are mapped from a file, which costs one pass less
        time, and half the memory, than converting all of them before."""
        self.passes += 1
        if self.passes == 2:
            self.unet.to(memory_format=torch.channels_last)
        return super().denoise(noisy, timestep, text)

    @property
    def default_resize(self) -> Resize:
        return "official" if min(self.size) >= 512 else "native"

    def encode_text(self, texts: Sequence[str]) -> Text:
        tokens = encode_text(self.tokenizer, texts, self.device)
        return Text(torch.cat([self.text_encoder(part)[0] for part in tokens.split(64)]))

    def token_positions(self, query: Query) -> list[list[int]]:
        return token_positions(self.tokenizer, query)

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> StableDiffusionPipeline:
        return StableDiffusionPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=scheduler or self.scheduler,
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )


def stable_diffusion(backbone: Backbone) -> StableDiffusion:
    """The backbone, for what needs its parts; a `UserError` for one of another family."""
    if not isinstance(backbone, StableDiffusion):
        raise UserError(
            f"{backbone.name}: a model of the family {type(backbone).__name__}; LoRA and Custom Diffusion "
            "need a Stable Diffusion 1.x or 2.x: give one"
        )
    return backbone
