"""What generate_images and invert_image share: flags of a shard, and the model with its LoRA."""

import argparse
from pathlib import Path

import torch

from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.io.files import sha256
from attnseg.settings import Generation, InversionJob


def add_shard_flags(parser: argparse.ArgumentParser) -> None:
    """Which samples, by which model, to which file, on which device."""
    parser.add_argument("--limit", type=int, help="use this many samples, from the first on")
    parser.add_argument("--shard", type=int, default=0, help="number of the shard")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument(
        "--model-file", help="Python file that exports the model's family, BACKBONE"
    )
    parser.add_argument("--lora", type=Path, help="weights of train_dreambooth_lora")
    parser.add_argument("--output", type=Path, required=True, help="shard-NNNNN.safetensors")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")


def load_adapted(
    args: argparse.Namespace,
    settings: Generation | InversionJob,
    device: torch.device,
    precision: torch.dtype | None,
) -> tuple[Backbone, dict]:
    """The model, with its LoRA where there is one, and the shard's parameters that are the same for
    all samples."""
    backbone = load_backbone(args.model, args.revision, device, precision, args.model_file)
    parameters = {
        **settings.identity(), "model": backbone.name, "weights": backbone.hashes(),
        "lora": args.lora and sha256(args.lora),
    }  # fmt: skip
    if args.lora:
        load_lora(stable_diffusion(backbone), args.lora)
    return backbone, parameters
