"""FLUX.1: T5 and a pooled CLIP, a transformer of double blocks and of single ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderKL, FluxPipeline, FluxTransformer2DModel, SchedulerMixin
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from attnseg.backbones.diffusion_transformer import FluxTransformer
from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.latents import KLLatents, packed, unpacked
from attnseg.backbones.loading import load_network, load_scheduler, load_tokenizer
from attnseg.backbones.noise import FlowNoise
from attnseg.backbones.text import Query, encode_text, token_positions

GUIDANCE = 3.5  # that dev is told; the pipeline's


@dataclass
class Flux(FlowNoise, FluxTransformer, KLLatents, Backbone):
    """A complete model, on one device in one dtype. Dev has 19 double blocks and 38 single ones."""

    transformer: FluxTransformer2DModel
    vae: AutoencoderKL
    tokenizer: CLIPTokenizer
    clip: CLIPTextModel
    t5_tokenizer: T5TokenizerFast
    t5: T5EncoderModel
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    default_timestep = 150  # GoCA's (arXiv 2603.06178)

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        transformer = load_network(folder, "transformer", FluxTransformer2DModel, dtype)
        return cls(
            transformer=transformer.to(device),
            vae=load_network(folder, "vae", AutoencoderKL, dtype).to(device),
            tokenizer=load_tokenizer(folder, "tokenizer", CLIPTokenizer),
            clip=load_network(folder, "text_encoder", CLIPTextModel, dtype).to(device),
            t5_tokenizer=load_tokenizer(folder, "tokenizer_2", T5TokenizerFast),
            t5=load_network(folder, "text_encoder_2", T5EncoderModel, dtype).to(device),
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    @property
    def multiple(self) -> int:
        return 2 * self.vae_scale_factor

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        height, width = (side // self.vae_scale_factor for side in size)
        return self.vae.config.latent_channels, height, width

    @property
    def window(self) -> int:
        """Tokens of a text: 512 of dev, 256 of schnell."""
        return 512 if self.transformer.config.guidance_embeds else 256

    def encode_text(self, texts: Sequence[str]) -> Text:
        hidden = self.t5(encode_text(self.t5_tokenizer, texts, self.device, self.window))[0]
        pooled = self.clip(encode_text(self.tokenizer, texts, self.device)).pooler_output
        return Text(hidden, {"pooled": pooled})

    def token_positions(self, query: Query) -> list[list[int]]:
        return token_positions(self.t5_tokenizer, query, self.window)

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        count, grid = len(noisy), (noisy.shape[-2] // 2, noisy.shape[-1] // 2)
        ranges = (torch.arange(side, dtype=torch.float32) for side in (1, *grid))
        cells = torch.cartesian_prod(*ranges)  # [h w, 3]: 0, row, column
        predicted = self.transformer(
            packed(noisy.to(**place)),
            encoder_hidden_states=text.hidden.to(**place),
            pooled_projections=text.more["pooled"].to(**place),
            timestep=torch.as_tensor(timestep, **place).expand(count) / 1000,
            img_ids=cells.to(self.device),
            txt_ids=torch.zeros(text.hidden.shape[1], 3, device=self.device),
            guidance=self.guidance(count),
        )
        return unpacked(predicted.sample, grid).float()

    def guidance(self, count: int) -> torch.Tensor | None:
        """What dev is told, [count]."""
        guided = self.transformer.config.guidance_embeds
        return torch.full((count,), GUIDANCE, device=self.device) if guided else None

    @property
    def output_blocks(self) -> int:
        """The double ones."""
        return len(self.transformer.transformer_blocks)

    @property
    def default_output_blocks(self) -> tuple[int, ...]:
        """Of 19 the last four (ConceptAttention)."""
        return tuple(range(15 * self.output_blocks // 19, self.output_blocks))

    def without_text(self, timestep: torch.Tensor | int, count: int) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        pooled = torch.zeros(count, self.transformer.config.pooled_projection_dim, **place)
        times, guidance = torch.as_tensor(timestep, **place).expand(count), self.guidance(count)
        if guidance is None:
            return self.transformer.time_text_embed(times, pooled)
        return self.transformer.time_text_embed(times, guidance.to(self.dtype) * 1000, pooled)

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> FluxPipeline:
        return FluxPipeline(
            scheduler=scheduler or self.scheduler,
            vae=self.vae,
            text_encoder=self.clip,
            tokenizer=self.tokenizer,
            text_encoder_2=self.t5,
            tokenizer_2=self.t5_tokenizer,
            transformer=self.transformer,
        )
