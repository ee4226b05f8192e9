#!/usr/bin/env python3
"""Train a miniature: Stable Diffusion, or an MM-DiT with its autoencoder and text encoder.

It is trained on captioned scenes of the mini world, images and captions only; masks are used to print
the mean IoU of its attention on mini dev. An interrupted training is resumed from its last checkpoint
(every few minutes) in --workdir. The result is a folder for diffusers and for `load_backbone`.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from attnseg.app import flags
from attnseg.backbones import load_backbone
from attnseg.backbones.model_files import weight_files
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.backbones.text import encode_text
from attnseg.errors import UserError, run
from attnseg.io.files import sha256
from attnseg.io.gpu import claim_device
from attnseg.mini import model, training
from attnseg.mini.card import save_with_card
from attnseg.mini.evaluation import dev_evaluation
from attnseg.mini.mmdit import assembled, mmdit_recipe, new_transformer
from attnseg.mini.recipes import Recipe
from attnseg.mini.unet import unet_recipe

STEPS = {"sd": 9000, "mmdit": 8000}  # of 32 and 64 scenes


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--seed", output="folder of the finished model")
    parser.add_argument("--family", choices=tuple(STEPS), default="sd")
    parser.add_argument(
        "--model", help="with --family mmdit: the miniature Stable Diffusion that it takes parts of"
    )
    parser.add_argument("--workdir", type=Path, required=True, help="scenes and checkpoints")
    parser.add_argument("--scenes", type=int, default=30000, help="training scenes")
    parser.add_argument(
        "--vae-steps", type=int, default=2000, help="autoencoder steps of 16 scenes"
    )
    parser.add_argument("--steps", type=int, help=f"denoiser steps (default {STEPS})")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    args = parser.parse_args(argv)
    if (args.family == "mmdit") != (args.model is not None):
        raise UserError(
            "--family mmdit and --model assets/mini_sd go together; give both or neither"
        )
    claim_device(args.device)
    torch.set_num_threads(args.threads)
    scenes = args.workdir / f"seed{args.seed}-scenes{args.scenes}"  # each folder names what made it
    scenes.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()

    def log(line: str) -> None:
        print(f"[{(time.monotonic() - started) / 60:6.1f} min] {line}", flush=True)

    images, captions = training.cached_scenes(scenes, args.seed, args.scenes, args.threads, log)
    make = new_unet if args.family == "sd" else new_mmdit
    recipe, encoded = make(args, images, captions, scenes, log)
    steps = args.steps or STEPS[args.family]
    denoiser = encoded / f"{recipe.folder}{steps}"
    denoiser.mkdir(parents=True, exist_ok=True)
    vae, tokenizer = recipe.backbone.vae, recipe.tokenizer
    empty = encode_text(tokenizer, [""])[0]
    latents = training.cached_latents(encoded, vae, images, args.device, log)
    tokens = torch.stack([encode_text(tokenizer, texts) for texts in captions])
    history = training.train_denoiser(
        recipe, latents, tokens, empty, steps, denoiser, args.device,
        dev_evaluation(recipe, args.seed, args.device), log,
    )  # fmt: skip
    facts = {
        "scenes": args.scenes,
        "vae_steps": args.vae_steps,
        "vae_batch": training.VAE_BATCH,
        "steps": steps,
        "batch": recipe.batch,
        "rate": recipe.rate,
        "hours": history[-1]["hours"],
        "machine": f"{args.threads} thread(s) of a CPU" if args.device == "cpu" else args.device,
        "command": "make ship-mini" + (" FAMILY=mmdit" if args.family == "mmdit" else ""),
    }
    save_with_card(recipe, history, facts, args.output)
    log(f"saved {args.output}")
    return 0


def new_unet(
    args: argparse.Namespace, images: np.ndarray, captions: list, scenes: Path, log: Callable
) -> tuple[Recipe, Path]:
    """A U-Net with a text encoder and a trained autoencoder, and the folder of that one's latents."""
    encoded = scenes / f"autoencoder{args.vae_steps}"
    encoded.mkdir(exist_ok=True)
    tokenizer = model.train_tokenizer(
        [c for texts in captions for c in texts], scenes / "tokenizer"
    )
    torch.manual_seed(args.seed)
    vae = model.new_autoencoder().to(memory_format=torch.channels_last)
    training.train_autoencoder(vae, images, args.vae_steps, encoded, args.device, log)
    vae.requires_grad_(False)
    encoder = model.new_text_encoder(tokenizer)
    return unet_recipe(model.assembled(vae, encoder, tokenizer, model.new_unet())), encoded


def new_mmdit(
    args: argparse.Namespace, _: object, __: object, scenes: Path, ___: object
) -> tuple[Recipe, Path]:
    """A transformer with the other networks of `--model`, and the folder of its autoencoder's latents."""
    shipped = stable_diffusion(load_backbone(args.model, device=args.device, dtype=torch.float32))
    digest = sha256(weight_files(args.model, "vae")[0])[:8]
    encoded = scenes / f"autoencoder-{digest}"
    encoded.mkdir(exist_ok=True)
    torch.manual_seed(args.seed)
    return mmdit_recipe(assembled(shipped, new_transformer())), encoded


if __name__ == "__main__":
    sys.exit(run(main))
