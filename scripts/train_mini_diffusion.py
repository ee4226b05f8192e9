#!/usr/bin/env python3
"""Train the miniature Stable Diffusion on captioned scenes of the mini world.

It is trained on images and captions only; masks are used to print the mean IoU of its attention on
mini dev. An interrupted training is resumed from its last checkpoint (every few minutes) in --workdir.
The result is a folder for StableDiffusionPipeline.from_pretrained.
"""

import os
import sys
import time
from pathlib import Path

import torch

from attnseg.app import flags
from attnseg.backbones.text import encode_text
from attnseg.errors import run
from attnseg.io.gpu import claim_device
from attnseg.mini import model, training
from attnseg.mini.card import save_with_card
from attnseg.mini.evaluation import dev_evaluation


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--seed", output="folder of the finished model")
    parser.add_argument("--workdir", type=Path, required=True, help="scenes and checkpoints")
    parser.add_argument("--scenes", type=int, default=30000, help="training scenes")
    parser.add_argument(
        "--vae-steps", type=int, default=2000, help="autoencoder steps of 16 scenes"
    )
    parser.add_argument("--steps", type=int, default=9000, help="denoiser steps of 32 scenes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    args = parser.parse_args(argv)
    claim_device(args.device)
    torch.set_num_threads(args.threads)
    scenes = args.workdir / f"seed{args.seed}-scenes{args.scenes}"  # each folder names what made it
    autoencoder = scenes / f"autoencoder{args.vae_steps}"
    denoiser = autoencoder / f"denoiser{args.steps}"
    denoiser.mkdir(parents=True, exist_ok=True)
    started = time.time()

    def log(line: str) -> None:
        print(f"[{(time.time() - started) / 60:6.1f} min] {line}", flush=True)

    images, captions = training.cached_scenes(scenes, args.seed, args.scenes, args.threads, log)
    tokenizer = model.train_tokenizer(
        [c for texts in captions for c in texts], scenes / "tokenizer"
    )
    torch.manual_seed(args.seed)
    vae = model.new_autoencoder().to(memory_format=torch.channels_last)
    training.train_autoencoder(vae, images, args.vae_steps, autoencoder, args.device, log)
    vae.requires_grad_(False)
    encoder = model.new_text_encoder(tokenizer)
    backbone = model.assembled(vae, encoder, tokenizer, model.new_unet())
    empty = encode_text(tokenizer, [""])[0]
    latents = training.cached_latents(autoencoder, vae, images, args.device, log)
    tokens = torch.stack([encode_text(tokenizer, texts) for texts in captions])
    history = training.train_denoiser(
        backbone, latents, tokens, empty, args.steps, denoiser, args.device,
        dev_evaluation(backbone, args.seed, args.device), log,
    )  # fmt: skip
    facts = {
        "scenes": args.scenes,
        "vae_steps": args.vae_steps,
        "vae_batch": training.VAE_BATCH,
        "steps": args.steps,
        "batch": training.BATCH,
        "hours": history[-1]["hours"],
        "machine": f"{args.threads} thread(s) of a CPU" if args.device == "cpu" else args.device,
        "command": "make ship-mini",
    }
    save_with_card(backbone.pipeline(), history, facts, args.output)
    log(f"saved {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
