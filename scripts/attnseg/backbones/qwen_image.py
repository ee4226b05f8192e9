"""Qwen-Image: the language model Qwen2.5-VL, and a transformer whose text and image attend jointly."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from diffusers import (
    AutoencoderKLQwenImage,
    QwenImagePipeline,
    QwenImageTransformer2DModel,
    SchedulerMixin,
)
from torch.nn.utils.rnn import pad_sequence
from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2Tokenizer

from attnseg.backbones.diffusion_transformer import JointTransformer
from attnseg.backbones.interface import Backbone, Posterior, Text
from attnseg.backbones.latents import packed, pixels_of, unpacked
from attnseg.backbones.loading import load_network, load_scheduler, load_tokenizer
from attnseg.backbones.noise import FlowNoise
from attnseg.backbones.text import Query, checked, places

WINDOW = 1024  # tokens of a text
SIDE = 1024  # pixels of an image, as in diffusers' pipeline
BEFORE = (  # what the language model is asked; its tokens are dropped
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, "
    "text, spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
AFTER = "<|im_end|>\n<|im_start|>assistant\n"


@dataclass
class QwenImage(FlowNoise, JointTransformer, Backbone):
    """A complete model, on one device in one dtype.

    Texts are padded to the longest among those encoded together; a mask hides the padding.
    """

    transformer: QwenImageTransformer2DModel
    vae: AutoencoderKLQwenImage
    tokenizer: Qwen2Tokenizer
    text_encoder: Qwen2_5_VLForConditionalGeneration
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    size = (SIDE, SIDE)

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        transformer = load_network(folder, "transformer", QwenImageTransformer2DModel, dtype)
        language = load_network(folder, "text_encoder", Qwen2_5_VLForConditionalGeneration, dtype)
        return cls(
            transformer=transformer.to(device),
            vae=load_network(folder, "vae", AutoencoderKLQwenImage, dtype).to(device),
            tokenizer=load_tokenizer(folder, "tokenizer", Qwen2Tokenizer),
            text_encoder=language.to(device),
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    @property
    def multiple(self) -> int:
        return 2 * self.vae.spatial_compression_ratio

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        height, width = (side // self.vae.spatial_compression_ratio for side in size)
        return self.vae.config.z_dim, height, width

    @functools.cached_property
    def dropped(self) -> int:
        """Tokens of `BEFORE`: 34 of the published tokenizer."""
        return len(self.tokenizer(BEFORE).input_ids)

    def encode_text(self, texts: Sequence[str]) -> Text:
        tokens = self.tokenizer(
            [BEFORE + text + AFTER for text in texts],
            max_length=WINDOW + self.dropped,
            padding=True,
            truncation=True,
            return_tensors="pt",
        ).to(self.device)
        states = self.text_encoder.model(
            input_ids=tokens.input_ids, attention_mask=tokens.attention_mask
        ).last_hidden_state
        rows = [
            row[mask.bool()][self.dropped :]
            for row, mask in zip(states, tokens.attention_mask, strict=True)
        ]
        mask = pad_sequence([row.new_ones(len(row)) for row in rows], batch_first=True)
        return Text(pad_sequence(rows, batch_first=True), {"mask": mask.bool()})

    def token_positions(self, query: Query) -> list[list[int]]:
        spans = [(len(BEFORE) + start, len(BEFORE) + end) for start, end in query.spans]
        found = places(self.tokenizer, BEFORE + query.text + AFTER, spans)
        return checked(query, [[place - self.dropped for place in one] for one in found], WINDOW)

    @functools.cached_property
    def scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each channel of the autoencoder's latents, [C, 1, 1]."""
        config = self.vae.config
        mean, std = (
            torch.tensor(each)[:, None, None] for each in (config.latents_mean, config.latents_std)
        )
        return mean, std

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Posterior:
        frames = pixels.to(self.vae.device, self.vae.dtype)[:, :, None]
        found = self.vae.encode(frames).latent_dist
        mean, std = (each[:, :, 0].float().cpu() for each in (found.mean, found.std))
        return Posterior(mean, std, 1 / self.scale[1], self.scale[0])

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        mean, std = (each.to(latents) for each in self.scale)
        frames = (latents * std + mean).to(self.vae.device, self.vae.dtype)[:, :, None]
        return pixels_of(self.vae.decode(frames).sample[:, :, 0])

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        count, grid = len(noisy), (noisy.shape[-2] // 2, noisy.shape[-1] // 2)
        predicted = self.transformer(
            packed(noisy.to(**place)),
            encoder_hidden_states=text.hidden.to(**place),
            encoder_hidden_states_mask=text.more["mask"].to(self.device),
            timestep=torch.as_tensor(timestep, **place).expand(count) / 1000,
            img_shapes=[[(1, *grid)]] * count,
        )
        return unpacked(predicted.sample, grid).float()

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> QwenImagePipeline:
        return QwenImagePipeline(
            scheduler=scheduler or self.scheduler,
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            transformer=self.transformer,
        )
