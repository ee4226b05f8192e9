"""Sana: a Gemma text encoder and a transformer whose self-attention is linear, which has no softmax.

Its cross-attention is read, on the latent's own grid; nothing propagates it.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from diffusers import AutoencoderDC, SanaPipeline, SanaTransformer2DModel, SchedulerMixin
from transformers import Gemma2Model, GemmaTokenizer

from attnseg.backbones.diffusion_transformer import CrossTransformer
from attnseg.backbones.interface import Backbone, Posterior, Text
from attnseg.backbones.loading import load_network, load_scheduler, load_tokenizer
from attnseg.backbones.noise import FlowNoise
from attnseg.backbones.text import Query, checked, lowered, places

WINDOW = 300  # tokens that the network sees
# what the pipeline puts before every text: of its tokens the network sees the first, which is the
# sequence's, and the last
INSTRUCTION = "\n".join(
    inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
)


@dataclass
class Sana(FlowNoise, CrossTransformer, Backbone):
    """A complete model. Its pipeline lowers the case of texts."""

    roles = (("cross", "attn2"),)
    default_timestep = 150  # no paper's; GoCA's (arXiv 2603.06178) for another flow, Flux

    tokenizer: GemmaTokenizer
    text_encoder: Gemma2Model
    vae: AutoencoderDC
    transformer: SanaTransformer2DModel
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        tokenizer = load_tokenizer(folder, "tokenizer", GemmaTokenizer)
        tokenizer.padding_side = "right"
        transformer = load_network(folder, "transformer", SanaTransformer2DModel, dtype)
        return cls(
            tokenizer=tokenizer,
            text_encoder=load_network(folder, "text_encoder", Gemma2Model, dtype).to(device),
            vae=load_network(folder, "vae", AutoencoderDC, dtype).to(device),
            transformer=transformer.to(device),
            scheduler=load_scheduler(folder),
            name=name,
            folder=folder,
        )

    @property
    def vae_scale_factor(self) -> int:
        return 2 ** (len(self.vae.config.encoder_block_out_channels) - 1)

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], None]:
        """The cross of all blocks: nobody has measured which are best."""
        return tuple(range(len(self.transformer.transformer_blocks))), None

    @property
    def dropped(self) -> int:
        """How many tokens after the first are left out."""
        return len(self.tokenizer(INSTRUCTION).input_ids) - 2

    def encode_text(self, texts: Sequence[str]) -> Text:
        tokens = self.tokenizer(
            [INSTRUCTION + lowered(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=self.dropped + WINDOW,
            return_tensors="pt",
        ).to(self.device)
        ids, mask = tokens.input_ids, tokens.attention_mask
        seen = [0, *range(1 + self.dropped, self.dropped + WINDOW)]
        parts = zip(ids.split(16), mask.split(16), strict=True)
        hidden = [self.text_encoder(i, attention_mask=m)[0][:, seen] for i, m in parts]
        return Text(torch.cat(hidden), {"mask": mask[:, seen]})

    def token_positions(self, query: Query) -> list[list[int]]:
        begin = len(INSTRUCTION)
        spans = [(begin + start, begin + end) for start, end in query.spans]
        found = places(self.tokenizer, INSTRUCTION + lowered(query.text), spans)
        return checked(query, [[p - self.dropped for p in some] for some in found], WINDOW)

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Posterior:
        mean = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent.float().cpu()
        return Posterior(mean, torch.zeros_like(mean), self.vae.config.scaling_factor)

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place: dict[str, Any] = {"device": self.device, "dtype": self.dtype}
        timestep = torch.as_tensor(timestep, device=self.device).expand(len(noisy))
        return self.transformer(
            noisy.to(**place),
            encoder_hidden_states=text.hidden.to(**place),
            encoder_attention_mask=text.more["mask"].to(self.device),
            timestep=timestep * self.transformer.config.timestep_scale,
        ).sample.float()

    def pipeline(self, scheduler: SchedulerMixin | None = None) -> SanaPipeline:
        return SanaPipeline(
            tokenizer=self.tokenizer,
            text_encoder=self.text_encoder,
            vae=self.vae,
            transformer=self.transformer,
            scheduler=scheduler or self.scheduler,
        )
