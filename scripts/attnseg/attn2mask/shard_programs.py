"""Loads a model with its LoRA, for generate_images and invert_image."""

import argparse

import torch

from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.io.files import sha256
from attnseg.settings import Generation, InversionJob


def load_adapted(
    args: argparse.Namespace,
    settings: Generation | InversionJob,
    device: torch.device,
    precision: torch.dtype | str | None,
) -> tuple[Backbone, dict]:
    """The model, with its LoRA where there is one, and the shard's parameters that are the same for
    all samples."""
    backbone = load_backbone(args.model, args.revision, device, precision, args.model_file)
    if args.lora:
        load_lora(stable_diffusion(backbone), args.lora)
    parameters = {
        **settings.record(), "model": backbone.name, "weights": backbone.hashes(),
        "lora": args.lora and sha256(args.lora),
    }  # fmt: skip
    return backbone, parameters
