"""Stable Diffusion 3 and 3.5: two CLIPs and T5, a transformer whose text and image attend jointly."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    SchedulerMixin,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from attnseg.backbones.diffusion_transformer import TransformerNetwork
from attnseg.backbones.interface import Attention, Backbone, Block, Text
from attnseg.backbones.latents import KLLatents
from attnseg.backbones.loading import load_network, load_scheduler, load_tokenizer
from attnseg.backbones.model_files import components
from attnseg.backbones.noise import FlowNoise
from attnseg.backbones.text import Query, encode_text, token_positions

WINDOW = 256  # tokens of T5, as in diffusers' pipeline


@dataclass
class StableDiffusion3(FlowNoise, TransformerNetwork, KLLatents, Backbone):
    """A complete model, on one device in one dtype.

    A text is CLIP's tokens, then T5's, which are zeros in a model without T5; in a model of one CLIP
    (the miniature) its tokens alone. Classes are read at CLIP's. In 3.5 medium some blocks have a
    second attention, of the image alone: `Block(n, "self")`.
    """

    transformer: SD3Transformer2DModel
    vae: AutoencoderKL
    tokenizers: tuple[CLIPTokenizer, ...]
    clips: tuple[CLIPTextModelWithProjection, ...]
    t5_tokenizer: T5TokenizerFast | None
    t5: T5EncoderModel | None
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    image_first = True
    default_timestep = 515  # Seg4Diff's: the eighth from last of the scheduler's 28 steps

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        present = components(folder)
        with_t5 = "text_encoder_3" in present
        places = [place for place in ("", "_2") if not place or f"text_encoder{place}" in present]
        clips = tuple(
            load_network(folder, f"text_encoder{place}", CLIPTextModelWithProjection, dtype).to(
                device
            )
            for place in places
        )
        t5_tokenizer = t5 = None
        if with_t5:
            t5_tokenizer = load_tokenizer(folder, "tokenizer_3", T5TokenizerFast)
            t5 = load_network(folder, "text_encoder_3", T5EncoderModel, dtype).to(device)
        return cls(
            transformer=load_network(folder, "transformer", SD3Transformer2DModel, dtype).to(
                device
            ),
            vae=load_network(folder, "vae", AutoencoderKL, dtype).to(device),
            tokenizers=tuple(
                load_tokenizer(folder, f"tokenizer{place}", CLIPTokenizer) for place in places
            ),
            clips=clips,
            t5_tokenizer=t5_tokenizer,
            t5=t5,
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    @property
    def multiple(self) -> int:
        return self.vae_scale_factor * self.transformer.config.patch_size

    @functools.cached_property
    def blocks(self) -> dict[Block, Attention]:
        halvings = self.transformer.config.patch_size.bit_length() - 1
        return {
            Block(number, role): Attention(module, halvings)
            for number, block in enumerate(self.transformer.transformer_blocks)
            for role, module in (("joint", block.attn), ("self", block.attn2))
            if module is not None
        }

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], int]:
        """Of 24 blocks the 9th (Seg4Diff, of Stable Diffusion 3); else that at the same depth."""
        best = 9 * len(self.transformer.transformer_blocks) // 24
        return (best,), best

    def encode_text(self, texts: Sequence[str]) -> Text:
        hidden, pooled = [], []
        for tokenizer, clip in zip(self.tokenizers, self.clips, strict=True):
            found = clip(encode_text(tokenizer, texts, self.device), output_hidden_states=True)
            hidden.append(found.hidden_states[-2])
            pooled.append(found.text_embeds)
        width = self.transformer.config.joint_attention_dim
        clips = torch.cat(hidden, -1)
        more = {"pooled": torch.cat(pooled, -1)}
        if len(self.clips) == 1:
            return Text(clips, more)
        if self.t5 is None:
            rest = clips.new_zeros(len(texts), WINDOW, width)
        else:
            rest = self.t5(encode_text(self.t5_tokenizer, texts, self.device, WINDOW))[0]
        whole = torch.cat([F.pad(clips, (0, width - clips.shape[-1])), rest], 1)
        return Text(whole, more)

    def token_positions(self, query: Query) -> list[list[int]]:
        return token_positions(self.tokenizers[0], query)

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        predicted = self.transformer(
            noisy.to(**place),
            encoder_hidden_states=text.hidden.to(**place),
            pooled_projections=text.more["pooled"].to(**place),
            timestep=torch.as_tensor(timestep, device=self.device).expand(len(noisy)),
        )
        return predicted.sample.float()

    @property
    def output_blocks(self) -> int:
        return len(self.transformer.transformer_blocks)

    def without_text(self, timestep: torch.Tensor | int, count: int) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        pooled = torch.zeros(count, self.transformer.config.pooled_projection_dim, **place)
        times = torch.as_tensor(timestep, device=self.device).expand(count)
        return self.transformer.time_text_embed(times, pooled)

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> StableDiffusion3Pipeline:
        return StableDiffusion3Pipeline(
            transformer=self.transformer,
            scheduler=scheduler or self.scheduler,
            vae=self.vae,
            text_encoder=self.clips[0],
            tokenizer=self.tokenizers[0],
            text_encoder_2=self.clips[1] if len(self.clips) > 1 else None,
            tokenizer_2=self.tokenizers[1] if len(self.clips) > 1 else None,
            text_encoder_3=self.t5,
            tokenizer_3=self.t5_tokenizer,
        )
