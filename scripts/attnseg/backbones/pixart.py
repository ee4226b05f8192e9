"""PixArt-alpha and PixArt-Sigma: a T5 text encoder with a mask, a transformer of 28 blocks."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from diffusers import (
    AutoencoderKL,
    DiffusionPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SchedulerMixin,
)
from transformers import T5EncoderModel, T5Tokenizer

from attnseg.backbones.diffusion_transformer import CrossTransformer
from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.loading import (
    load_autoencoder,
    load_network,
    load_scheduler,
    load_tokenizer,
)
from attnseg.backbones.noise import DDPMNoise
from attnseg.backbones.text import Query, lowered, token_positions


@dataclass
class PixArtAlpha(DDPMNoise, CrossTransformer, Backbone):
    """A complete model. Its pipeline lowers the case of texts."""

    default_timestep = 100  # GoCA's (arXiv 2603.06178), for PixArt-Sigma
    window = 120  # tokens that it was trained on
    made_by: ClassVar[type[DiffusionPipeline]] = PixArtAlphaPipeline

    tokenizer: T5Tokenizer
    text_encoder: T5EncoderModel
    vae: AutoencoderKL
    transformer: PixArtTransformer2DModel
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        transformer = load_network(folder, "transformer", PixArtTransformer2DModel, dtype)
        return cls(
            tokenizer=load_tokenizer(folder, "tokenizer", T5Tokenizer),
            text_encoder=load_network(folder, "text_encoder", T5EncoderModel, dtype).to(device),
            vae=load_autoencoder(folder, dtype).to(device),
            transformer=transformer.to(device),
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], int]:
        """The cross of all blocks; the self of 14 of 28: GoCA takes 10 to 17 together."""
        count = len(self.transformer.transformer_blocks)
        return tuple(range(count)), count // 2

    def encode_text(self, texts: Sequence[str]) -> Text:
        tokens = self.tokenizer(
            [lowered(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=self.window,
            return_tensors="pt",
        ).to(self.device)
        ids, mask = tokens.input_ids, tokens.attention_mask
        parts = zip(ids.split(16), mask.split(16), strict=True)
        hidden = torch.cat([self.text_encoder(i, attention_mask=m)[0] for i, m in parts])
        return Text(hidden, {"mask": mask})

    def token_positions(self, query: Query) -> list[list[int]]:
        return token_positions(
            self.tokenizer, replace(query, text=lowered(query.text)), self.window
        )

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        height, width = (self.vae_scale_factor * cells for cells in noisy.shape[-2:])
        added: dict[str, torch.Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if self.transformer.use_additional_conditions:
            added["resolution"] = torch.tensor([[height, width]], **place).expand(len(noisy), -1)
            added["aspect_ratio"] = torch.tensor([[height / width]], **place).expand(len(noisy), -1)
        predicted = self.transformer(
            noisy.to(**place),
            encoder_hidden_states=text.hidden.to(**place),
            encoder_attention_mask=text.more["mask"].to(self.device),
            timestep=torch.as_tensor(timestep, device=self.device).expand(len(noisy)),
            added_cond_kwargs=added,
        ).sample
        return predicted[:, : noisy.shape[1]].float()  # without the variances, if they were learnt

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> DiffusionPipeline:
        return self.made_by(
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            vae=self.vae,
            transformer=self.transformer,
            scheduler=scheduler or self.scheduler,
        )


class PixArtSigma(PixArtAlpha):
    window = 300
    made_by = PixArtSigmaPipeline
