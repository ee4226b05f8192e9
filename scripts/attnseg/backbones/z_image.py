"""Z-Image: hidden states of Qwen3, a transformer in whose blocks image and text are one sequence."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, SchedulerMixin, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen2Tokenizer, Qwen3Model

from attnseg.backbones.diffusion_transformer import TransformerNetwork
from attnseg.backbones.interface import Attention, Backbone, Block, Text
from attnseg.backbones.latents import KLLatents
from attnseg.backbones.loading import load_network, load_scheduler
from attnseg.backbones.noise import FlowNoise
from attnseg.backbones.qwen3 import Qwen3Text, load_chat

SIDE = 1024  # pixels of an image, as in diffusers' pipeline


@dataclass
class ZImage(FlowNoise, Qwen3Text, TransformerNetwork, KLLatents, Backbone):
    """A complete model, on one device in one dtype.

    The network fills up the tokens of an image, and those of a text, to a multiple of 32. Its blocks
    after the refiners, which see the image or the text alone, are read.
    """

    transformer: ZImageTransformer2DModel
    vae: AutoencoderKL
    tokenizer: Qwen2Tokenizer
    text_encoder: Qwen3Model
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    thinking = True
    image_first = True
    filled_to = 32
    size = (SIDE, SIDE)

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        transformer = load_network(folder, "transformer", ZImageTransformer2DModel, dtype)
        return cls(
            transformer=transformer.to(device),
            vae=load_network(folder, "vae", AutoencoderKL, dtype).to(device),
            tokenizer=load_chat(folder),
            text_encoder=load_network(folder, "text_encoder", Qwen3Model, dtype).to(device),
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    @property
    def multiple(self) -> int:
        return 2 * self.vae_scale_factor

    @functools.cached_property
    def blocks(self) -> dict[Block, Attention]:
        every = self.transformer.layers
        return {Block(n, "joint"): Attention(block.attention, 1) for n, block in enumerate(every)}

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], int]:
        """At the depth that is Seg4Diff's of Stable Diffusion 3; none is published of this model."""
        best = 9 * len(self.blocks) // 24
        return (best,), best

    def encode_text(self, texts: Sequence[str]) -> Text:
        hidden, mask = self.states(texts, [-2])
        longest = -(-int(mask.sum(1).max()) // self.filled_to) * self.filled_to
        return Text(hidden[:, :longest], {"mask": mask[:, :longest]})

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        """The network is told of the image's share, and says how to come back from the noise."""
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        rows = zip(text.hidden.to(**place), text.more["mask"].to(self.device), strict=True)
        noise = torch.as_tensor(timestep, device=self.device).expand(len(noisy)) / 1000
        predicted = self.transformer(
            list(noisy.to(**place)[:, :, None]), 1 - noise, [row[mask] for row, mask in rows]
        )
        return -torch.stack(predicted.sample)[:, :, 0].float()

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> ZImagePipeline:
        return ZImagePipeline(
            scheduler=scheduler or self.scheduler,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            transformer=self.transformer,
        )
