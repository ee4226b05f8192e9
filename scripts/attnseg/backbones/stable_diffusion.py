"""Stable Diffusion 1.x and 2.x: one CLIP text encoder, a U-Net with self- and cross-attention."""

import functools
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import diffusers
import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.models.attention import BasicTransformerBlock
from transformers import CLIPTextModel, CLIPTokenizer

from attnseg.backbones.interface import Attention, Backbone, Block, Denoiser, Posterior, Text
from attnseg.backbones.model_files import check_component, variant_of, weight_files
from attnseg.errors import UserError
from attnseg.prompts import Query, encode_text, token_positions

NETWORKS = {"text_encoder": CLIPTextModel, "vae": AutoencoderKL, "unet": UNet2DConditionModel}


@dataclass
class UNet(Denoiser):
    """The denoiser alone. Blocks are numbered over the whole U-Net; 1.x and 2.x have 16."""

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
        levels = [*range(depth), depth - 1, *reversed(range(depth))]
        parts = [*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks]
        transformers = [
            (module, level)
            for part, level in zip(parts, levels, strict=True)
            if part is not None
            for module in part.modules()
            if isinstance(module, BasicTransformerBlock)
        ]
        return {
            Block(number, role): Attention(getattr(module, name), level)
            for number, (module, level) in enumerate(transformers)
            for role, name in (("self", "attn1"), ("cross", "attn2"))
        }

    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        place = {"device": self.device, "dtype": self.dtype}
        if isinstance(timestep, torch.Tensor):
            timestep = timestep.to(self.device)
        hidden = text.hidden.to(**place)
        return self.unet(noisy.to(**place), timestep, encoder_hidden_states=hidden).sample.float()


@dataclass
class StableDiffusion(UNet, Backbone):
    """All of a model, on one device in one dtype."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: AutoencoderKL
    scheduler: SchedulerMixin
    name: str = ""
    folder: Path = Path()

    @classmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        for component in ("tokenizer", *NETWORKS, "scheduler"):
            check_component(folder, component)
        return cls(
            tokenizer=_tokenizer(folder),
            text_encoder=_network(folder, "text_encoder", dtype).to(device),
            vae=_network(folder, "vae", dtype).to(device),
            unet=_network(folder, "unet", dtype).to(device, memory_format=torch.channels_last),
            scheduler=_scheduler(folder),
            name=name,
            folder=folder,
        )

    @property
    def factor(self) -> int:
        """The pixels of a side that are one latent."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def size(self) -> tuple[int, int]:
        side = self.unet.config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        return height * self.factor, width * self.factor

    @property
    def multiple(self) -> int:
        return self.factor * 2 ** (len(self.unet.config.block_out_channels) - 1)

    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        return self.unet.config.in_channels, size[0] // self.factor, size[1] // self.factor

    def encode_text(self, texts: Sequence[str]) -> Text:
        tokens = encode_text(self.tokenizer, texts, self.device)
        return Text(torch.cat([self.text_encoder(part)[0] for part in tokens.split(64)]))

    def token_positions(self, query: Query) -> list[list[int]]:
        return token_positions(self.tokenizer, query)

    @torch.no_grad()
    def encode_images(self, pixels: torch.Tensor) -> Posterior:
        found = self.vae.encode(pixels.to(self.vae.device, self.vae.dtype)).latent_dist
        mean, std = found.mean.float().cpu(), found.std.float().cpu()
        return Posterior(mean, std, self.vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        latents = (latents / self.vae.config.scaling_factor).to(self.vae.device, self.vae.dtype)
        pixels = (self.vae.decode(latents).sample.float() * 127.5 + 127.5).clamp(0, 255).round()
        return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()

    @functools.cached_property
    def noising(self) -> DDPMScheduler:
        return DDPMScheduler.from_config(self.scheduler.config)

    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        timestep = torch.as_tensor(timestep, device=latents.device).expand(len(latents))
        return self.noising.add_noise(latents, noise, timestep)

    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        velocity = self.noising.config.prediction_type == "v_prediction"
        return self.noising.get_velocity(latents, noise, timestep) if velocity else noise

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


def _network(folder: Path, component: str, dtype: torch.dtype) -> torch.nn.Module:
    transformer = component == "text_encoder"
    options = {
        "use_safetensors": True,
        "local_files_only": True,
        "variant": variant_of(weight_files(folder, component)[0]),
        "output_loading_info": True,
        "dtype" if transformer else "torch_dtype": dtype,
    }
    where = f"{folder}: {component}/"
    try:
        network, info = NETWORKS[component].from_pretrained(folder / component, **options)
    except Exception as error:  # a damaged file, a configuration of another class: many types
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(f"{where} cannot be loaded ({reason}); fetch the model again") from None
    wrong = [*info["missing_keys"], *(key[0] for key in info["mismatched_keys"])]
    if wrong:
        raise UserError(
            f"{where} lacks {len(wrong)} weights, or has them in another shape ({wrong[0]}, ...); "
            "the weights and config.json are of different models"
        )
    return network.eval().requires_grad_(False)


def _tokenizer(folder: Path) -> CLIPTokenizer:
    try:
        return CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except Exception as error:
        reason = re.sub(r"\s+", " ", str(error))[:200]
        raise UserError(
            f"{folder}: tokenizer/ cannot be loaded ({reason}); fetch the model again"
        ) from None


def _scheduler(folder: Path) -> SchedulerMixin:
    file = folder / "scheduler" / "scheduler_config.json"
    try:
        name = json.loads(file.read_text())["_class_name"]
        return getattr(diffusers, name).from_pretrained(file.parent, local_files_only=True)
    except (ValueError, KeyError, AttributeError, OSError) as error:
        raise UserError(
            f"{file}: names no scheduler of diffusers ({type(error).__name__}: {error})"
        ) from None
