#!/usr/bin/env python3
"""Teach a Stable Diffusion the look of a target domain: DreamBooth-LoRA on unlabelled images.

The instance prompt contains the domain token `sks`. The model first draws images of `class_prompt`, for
prior preservation. The result is one safetensors file for diffusers' `pipeline.load_lora_weights`. An
interrupted training is resumed from the images and the checkpoint that are there, and ends with the same
weights.

    python scripts/train_dreambooth_lora.py --model assets/mini_sd \\
        --images resources/mini/cityscapes/leftImg8bit/train --output work/mini/lora/sks.safetensors
"""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from attnseg.app import flags
from attnseg.attn2mask.dreambooth_lora import (
    base_signature,
    read_targets,
    save_lora,
    target_images,
    train,
)
from attnseg.backbones import load_backbone
from attnseg.backbones.class_images import class_images
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.errors import run
from attnseg.io.files import parameters_hash
from attnseg.io.gpu import claim_device, training_dtype
from attnseg.settings import LoraJob
from attnseg.settings.cli import given_settings


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__,
        "--model --revision --device",
        output="LoRA weights (.safetensors)",
        settings=LoraJob,
    )
    parser.add_argument(
        "--images", type=Path, nargs="+", required=True, help="target images, or folders of them"
    )
    parser.add_argument("--workdir", type=Path, help="checkpoints (default: beside the output)")
    parser.add_argument(
        "--class-images",
        type=Path,
        metavar="FOLDER",
        help="images of `class_prompt`: your own, or where they are drawn (default: beside the output)",
    )
    flags.add(parser, "--limit", help="use this many target images, evenly spread")
    args = parser.parse_args(argv)
    options = given_settings(args, LoraJob)
    device = claim_device(args.device)
    dtype = training_dtype(device)
    backbone = stable_diffusion(load_backbone(args.model, args.revision, device, dtype))
    paths = target_images(args.images)
    if args.limit:
        places = np.linspace(0, len(paths) - 1, min(args.limit, len(paths))).round().astype(int)
        paths = [paths[place] for place in places]
    class_paths: tuple[Path, ...] = ()
    if options.class_images:
        class_paths = class_images(
            backbone, backbone.hashes(), options.class_prompt, options.class_prompt,
            args.class_images or args.output.with_name(f"{args.output.stem}.class_images"),
            options.class_images, size=options.size, guidance=options.guidance, seed=options.seed,
        )  # fmt: skip
    side = options.size or min(backbone.size)
    parameters = {**options.record(), "base": base_signature(backbone.unet)}
    parameters["images"] = [str(path) for path in (*paths, *class_paths)]
    workdir = args.workdir or args.output.parent / "checkpoints"
    checkpoint = workdir / f"{args.output.stem}-{parameters_hash(parameters)}.pt"
    bar = tqdm(total=options.steps, desc="LoRA", mininterval=2, disable=not sys.stderr.isatty())

    def log(step: int, loss: float) -> None:
        if not bar.n and step > 1:
            print(f"resumed after step {step - 1}", flush=True)
        bar.update(step - bar.n)
        if step % options.checkpoint_interval == 0 or step == options.steps:
            print(f"step {step}/{options.steps} loss {loss:.4f}", flush=True)

    adapted = train(
        backbone, read_targets(paths, side), read_targets(class_paths, side), options, checkpoint,
        options.checkpoint_interval, log,
    )  # fmt: skip
    bar.close()
    save_lora(args.output, backbone, adapted, options)
    checkpoint.unlink(missing_ok=True)
    print(
        f"{len(paths)} target images, {len(class_paths)} of the class, rank {options.rank} -> {args.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
