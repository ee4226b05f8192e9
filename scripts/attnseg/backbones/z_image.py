"""Z-Image: hidden states of Qwen3, a transformer in whose blocks image and text are one sequence."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, SchedulerMixin, ZImagePipeline, ZImageTransformer2DModel
from transformers import Qwen2Tokenizer, Qwen3Model

from attnseg.backbones.diffusion_transformer import JointTransformer
from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.latents import KLLatents
from attnseg.backbones.noise import FlowNoise
from attnseg.backbones.qwen3 import Qwen3Text, load_parts

SIDE = 1024  # pixels of an image, as in diffusers' pipeline


@dataclass
class ZImage(FlowNoise, Qwen3Text, JointTransformer, KLLatents, Backbone):
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
        networks = {"transformer": ZImageTransformer2DModel, "vae": AutoencoderKL}
        return cls(**load_parts(folder, networks, device, dtype), name=name, folder=folder)

    @property
    def multiple(self) -> int:
        return 2 * self.vae_scale_factor

    @property
    def attentions(self) -> list[torch.nn.Module]:
        return [block.attention for block in self.transformer.layers]

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
