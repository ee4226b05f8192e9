"""FLUX.2 klein: hidden states of Qwen3, a transformer of double blocks and of single ones."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKLFlux2,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    SchedulerMixin,
)
from transformers import Qwen2Tokenizer, Qwen3Model

from attnseg.backbones.diffusion_transformer import FluxTransformer
from attnseg.backbones.interface import Backbone, Posterior, Text
from attnseg.backbones.latents import pixels_of
from attnseg.backbones.noise import FlowNoise
from attnseg.backbones.qwen3 import Qwen3Text, load_parts

LAYERS = (9, 18, 27)  # of Qwen3, as in diffusers' pipeline


@dataclass
class Flux2Klein(FlowNoise, Qwen3Text, FluxTransformer, Backbone):
    """A complete model, on one device in one dtype.

    Latents are the autoencoder's, 2 x 2 cells in the channels of one, less their mean and over their
    standard deviation, so that a token is a cell. 4B has 5 double blocks and 20 single ones. The network
    also sees a text's padding.
    """

    transformer: Flux2Transformer2DModel
    vae: AutoencoderKLFlux2
    tokenizer: Qwen2Tokenizer
    text_encoder: Qwen3Model
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    thinking = False
    halvings = 0

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        networks = {"transformer": Flux2Transformer2DModel, "vae": AutoencoderKLFlux2}
        return cls(**load_parts(folder, networks, device, dtype), name=name, folder=folder)

    @property
    def multiple(self) -> int:
        return 2 ** len(self.vae.config.block_out_channels)

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        height, width = (side // self.multiple for side in size)
        return self.transformer.config.in_channels, height, width

    def encode_text(self, texts: Sequence[str]) -> Text:
        return Text(self.states(texts, LAYERS)[0])

    @functools.cached_property
    def scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each channel of the latents, [C, 1, 1] float32 on the CPU."""
        norm = self.vae.bn
        variance = norm.running_var.float() + self.vae.config.batch_norm_eps
        mean, std = (
            each.cpu()[:, None, None] for each in (norm.running_mean.float(), variance.sqrt())
        )
        return mean, std

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Posterior:
        found = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist
        mean, std = (F.pixel_unshuffle(each.float().cpu(), 2) for each in (found.mean, found.std))
        return Posterior(mean, std, 1 / self.scale[1], self.scale[0])

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        mean, std = (each.to(latents) for each in self.scale)
        cells = F.pixel_shuffle(latents * std + mean, 2).to(self.vae.device, self.vae.dtype)
        return pixels_of(self.vae.decode(cells).sample)

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        grid, length = noisy.shape[-2:], text.hidden.shape[1]
        predicted = self.transformer(
            noisy.to(**place).flatten(2).transpose(1, 2),
            encoder_hidden_states=text.hidden.to(**place),
            timestep=torch.as_tensor(timestep, **place).expand(len(noisy)) / 1000,
            img_ids=self.ids(1, *grid, 1),
            txt_ids=self.ids(1, 1, 1, length),
        )
        return predicted.sample.transpose(1, 2).unflatten(2, grid).float()

    def ids(self, *sides: int) -> torch.Tensor:
        """Places of tokens: image, row, column and word, [tokens, 4]."""
        places = torch.cartesian_prod(*(torch.arange(side) for side in sides))
        return places.to(self.device)

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> Flux2KleinPipeline:
        return Flux2KleinPipeline(
            scheduler=scheduler or self.scheduler,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            transformer=self.transformer,
        )
