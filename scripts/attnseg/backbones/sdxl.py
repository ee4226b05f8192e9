"""Stable Diffusion XL: two CLIP text encoders, joined on features, and a U-Net of 70 blocks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from diffusers import (
    AutoencoderKL,
    SchedulerMixin,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.loading import (
    load_autoencoder,
    load_network,
    load_scheduler,
    load_tokenizer,
)
from attnseg.backbones.model_files import read_index
from attnseg.backbones.noise import DDPMNoise
from attnseg.backbones.stable_diffusion import UNet, UNetLatents
from attnseg.backbones.text import Query, encode_text, token_positions


@dataclass
class SDXL(DDPMNoise, UNetLatents, UNet, Backbone):
    """A complete model; its tokenizers have the same tokens, so that positions are shared.

    The default blocks are those of the interface: cross-attention of the 60 blocks at 1/4 of the
    latent, propagated by the decoder's first at 1/2, 64. GoCA (arXiv 2603.06178) reads the cross of
    all 70, weighted, and the self of 64 to 66, among others, at the default timestep.
    """

    default_timestep = 100  # GoCA's

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    tokenizer_2: CLIPTokenizer
    text_encoder_2: CLIPTextModelWithProjection
    vae: AutoencoderKL
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        second = CLIPTextModelWithProjection
        unet = load_network(folder, "unet", UNet2DConditionModel, dtype)
        return cls(
            tokenizer=load_tokenizer(folder, "tokenizer", CLIPTokenizer),
            text_encoder=load_network(folder, "text_encoder", CLIPTextModel, dtype).to(device),
            tokenizer_2=load_tokenizer(folder, "tokenizer_2", CLIPTokenizer),
            text_encoder_2=load_network(folder, "text_encoder_2", second, dtype).to(device),
            vae=load_autoencoder(folder, dtype).to(device),
            unet=unet.to(device, memory_format=torch.channels_last),
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    def encode_text(self, texts: Sequence[str]) -> Text:
        states, pooled = [], torch.empty(0)
        for tokenizer, encoder in (
            (self.tokenizer, self.text_encoder),
            (self.tokenizer_2, self.text_encoder_2),
        ):
            tokens = encode_text(tokenizer, texts, self.device)
            parts = [encoder(part, output_hidden_states=True) for part in tokens.split(64)]
            states.append(torch.cat([part.hidden_states[-2] for part in parts]))
            if encoder is self.text_encoder_2:
                pooled = torch.cat([part.text_embeds for part in parts])
        hidden = torch.cat(states, -1)
        if read_index(self.folder).get("force_zeros_for_empty_prompt", True):
            for row, text in enumerate(texts):
                if not text:
                    hidden[row], pooled[row] = 0, 0
        return Text(hidden, {"text_embeds": pooled})

    def token_positions(self, query: Query) -> list[list[int]]:
        return token_positions(self.tokenizer, query)

    def conditions(self, noisy: torch.Tensor, text: Text) -> dict[str, torch.Tensor]:
        """The pooled text, and the image's size: before a crop, the crop's corner, and after it."""
        height, width = (self.vae_scale_factor * cells for cells in noisy.shape[-2:])
        sizes = torch.tensor([height, width, 0, 0, height, width])
        return {
            "text_embeds": text.more["text_embeds"].to(self.device, self.dtype),
            "time_ids": sizes.to(self.device, self.dtype).expand(len(noisy), -1),
        }

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> StableDiffusionXLPipeline:
        return StableDiffusionXLPipeline(
            vae=self.vae,
            text_encoder=self.text_encoder,
            text_encoder_2=self.text_encoder_2,
            tokenizer=self.tokenizer,
            tokenizer_2=self.tokenizer_2,
            unet=self.unet,
            scheduler=scheduler or self.scheduler,
            add_watermarker=False,
        )
