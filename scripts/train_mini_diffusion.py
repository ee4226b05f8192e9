#!/usr/bin/env python3
"""Train the miniature Stable Diffusion on captioned scenes of the mini world.

It is trained on images and captions only; masks are used to print the mean IoU of its attention on
mini dev. An interrupted training is resumed from its last checkpoint (every few minutes) in --workdir.
The result is a folder for StableDiffusionPipeline.from_pretrained.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import torch

from attnseg.backbones.text import encode_text
from attnseg.errors import run
from attnseg.io.files import write_atomically, write_json
from attnseg.io.gpu import claim_device
from attnseg.mini import model, training
from attnseg.mini.card import write_card
from attnseg.mini.evaluation import dev_evaluation
from attnseg.mini.world.training import training_scenes


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the finished model")
    parser.add_argument("--workdir", type=Path, required=True, help="scenes and checkpoints")
    parser.add_argument("--scenes", type=int, default=30000, help="training scenes")
    parser.add_argument(
        "--vae-steps", type=int, default=2000, help="autoencoder steps of 16 scenes"
    )
    parser.add_argument("--steps", type=int, default=9000, help="denoiser steps of 32 scenes")
    parser.add_argument("--seed", type=int, default=0, help="of the world and of the weights")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
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

    images, captions = cached_scenes(scenes, args.seed, args.scenes, args.threads, log)
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
    latents = cached_latents(autoencoder, vae, images, args.device, log)
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
    save(backbone.pipeline(), history, facts, args.output)
    log(f"saved {args.output}")
    return 0


def cached_scenes(folder: Path, seed: int, count: int, threads: int, log) -> tuple:
    """Render the training scenes, or load them if that was done before."""
    kept_images, kept_captions = folder / "images.npy", folder / "captions.json"
    if not kept_captions.exists():
        log(f"rendering {count} scenes")
        images, captions = training_scenes(seed, count, threads)
        save_array(kept_images, images)
        write_json(kept_captions, captions)
    return np.load(kept_images), json.loads(kept_captions.read_text())


def cached_latents(folder: Path, vae, images: np.ndarray, device: str, log) -> torch.Tensor:
    """Scaled latents of the scenes, original and mirrored: [2, N, 8, 16, 16] float16."""
    kept = folder / "latents.npy"
    if not kept.exists():
        log("encoding the scenes")
        views = [training.encode(vae, view, device) for view in (images, images[:, :, ::-1].copy())]
        save_array(kept, (torch.stack(views) * vae.config.scaling_factor).half().numpy())
    return torch.from_numpy(np.load(kept))


def save_array(path: Path, array: np.ndarray) -> None:
    with write_atomically(path) as partial:
        np.save(partial, array)


def save(pipeline, history: list[dict], facts: dict, output: Path) -> None:
    """Write the pipeline in float16 with its card and history; move it into place when complete."""
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(partial / "training.json", history)
    write_card(partial, pipeline, history, facts)
    pipeline.to(torch.float16).save_pretrained(partial, safe_serialization=True)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)


if __name__ == "__main__":
    sys.exit(run(main))
