#!/usr/bin/env python3
"""Teach a Stable Diffusion the look of a target domain: DreamBooth-LoRA on unlabelled images.

The domain token `sks` stands in the instance prompt. --class-images with --class-prompt preserve
the prior; generate_images makes such images. The result is one safetensors file for diffusers'
`pipeline.load_lora_weights`. Interrupted, training goes on from the checkpoint in --workdir and ends
in the same weights.

    python scripts/train_dreambooth_lora.py --model assets/mini_sd \\
        --images resources/mini/cityscapes/leftImg8bit/train --output work/mini/lora/sks.safetensors
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from attnseg.attn2mask.dreambooth_lora import (
    LoraOptions,
    base_signature,
    read_targets,
    save_lora,
    target_images,
    train,
)
from attnseg.backbones import load_backbone
from attnseg.errors import UserError, run
from attnseg.files import parameters_hash
from attnseg.gpu import claim_device, training_dtype


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    defaults = LoraOptions()
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="target images, or folders of them"
    )
    parser.add_argument("--output", type=Path, required=True, help="LoRA weights (.safetensors)")
    parser.add_argument("--workdir", type=Path, help="checkpoints (default: beside the output)")
    parser.add_argument("--instance-prompt", default=defaults.instance_prompt)
    parser.add_argument("--class-prompt", help="with --class-images: prior preservation")
    parser.add_argument("--class-images", type=Path, nargs="+", help="images of the class prompt")
    parser.add_argument("--prior-weight", type=float, default=defaults.prior_weight)
    parser.add_argument("--rank", type=int, default=defaults.rank)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--batch-size", type=int, default=defaults.batch_size)
    parser.add_argument("--learning-rate", type=float, default=defaults.learning_rate)
    parser.add_argument("--text-encoder", action="store_true", help="adapt the text encoder, too")
    parser.add_argument("--size", type=int, help="side of the crops (default: the model's)")
    parser.add_argument("--limit", type=int, help="use this many target images, evenly spread")
    parser.add_argument("--checkpoint-every", type=int, default=100, help="steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    for name in ("rank", "steps", "batch_size", "checkpoint_every"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1")
    options = LoraOptions(**{name: getattr(args, name) for name in asdict(defaults)})
    device = claim_device(args.device)
    backbone = load_backbone(args.model, args.revision, device, training_dtype(device))
    paths = target_images(args.images)
    if args.limit:
        places = np.linspace(0, len(paths) - 1, min(args.limit, len(paths))).round().astype(int)
        paths = [paths[place] for place in places]
    class_paths = target_images(args.class_images) if args.class_images else []
    side = options.size or min(backbone.size)
    parameters = {**asdict(options), "base": base_signature(backbone.unet)}
    parameters["images"] = [str(path) for path in (*paths, *class_paths)]
    workdir = args.workdir or args.output.parent / "checkpoints"
    checkpoint = workdir / f"{args.output.stem}-{parameters_hash(parameters)}.pt"
    bar = tqdm(total=options.steps, desc="LoRA", mininterval=2, disable=not sys.stderr.isatty())

    def log(step: int, loss: float) -> None:
        bar.update(step - bar.n)
        if step % args.checkpoint_every == 0 or step == options.steps:
            print(f"step {step}/{options.steps} loss {loss:.4f}", flush=True)

    adapted = train(
        backbone, read_targets(paths, side), read_targets(class_paths, side), options, checkpoint,
        args.checkpoint_every, log,
    )  # fmt: skip
    bar.close()
    save_lora(args.output, backbone, adapted, options)
    checkpoint.unlink(missing_ok=True)
    print(f"{len(paths)} target images, rank {options.rank} -> {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
