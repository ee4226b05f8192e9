#!/usr/bin/env python3
"""Teach Stable Diffusion a subject from a few photos of it (Custom Diffusion).

    python scripts/train_custom_diffusion.py --photos my_photos --class mug --output my_mug

Learns the embedding of a new word, <new1>, and the keys and values of the cross-attention, while
generated images of the class (or those of --regularisation) preserve what the class means. Several
subjects are learnt together where --photos, --class and --token are given several times. The
defaults are the paper's: about 6 minutes on two A100s.

Interrupted, the same command goes on from its last checkpoint and ends with the same weights. The
output folder loads into a stock diffusers pipeline as well: see attnseg.diffusion.custom_diffusion.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from attnseg import provenance
from attnseg.diffusion import custom_diffusion as cd
from attnseg.diffusion.load import load_parts
from attnseg.errors import UserError, run

MODEL = "CompVis/stable-diffusion-v1-4"
REVISION = "133a221b8aa7292a167afc5127cb63fb5005638b"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = cd.Settings()
    p.add_argument(
        "--photos", type=Path, action="append", required=True, help="folder of 5 to 10 photos"
    )
    p.add_argument(
        "--class", dest="classes", action="append", required=True, help="its word, as mug"
    )
    p.add_argument("--token", action="append", help="the new word (default <new1>, <new2>, ...)")
    p.add_argument("--output", type=Path, required=True, help="folder for the weights")
    p.add_argument("--model", help=f"folder or hub id of a Stable Diffusion (default {MODEL})")
    p.add_argument("--revision", help="of a hub id")
    p.add_argument(
        "--regularisation",
        type=Path,
        action="append",
        help="folder of images of the class; missing ones are generated there "
        "(default: beside the output, regularisation/<class>)",
    )
    p.add_argument(
        "--regularisation-images",
        type=int,
        default=200,
        metavar="N",
        help="to generate; 0 for no prior preservation",
    )
    p.add_argument(
        "--only-regularisation",
        action="store_true",
        help="generate the images of the class, and stop",
    )
    p.add_argument("--steps", type=int, default=default.steps)
    p.add_argument("--batch-size", type=int, default=default.batch_size, help="photos a step")
    p.add_argument(
        "--learning-rate",
        type=float,
        default=default.learning_rate,
        help="multiplied by the batch size",
    )
    p.add_argument("--prior-weight", type=float, default=default.prior_weight)
    p.add_argument("--size", type=int, help="pixels of the square photos (default: the model's)")
    p.add_argument("--prompt", default=default.prompt, help="with {} for the subject")
    p.add_argument(
        "--initial-word",
        default=default.initial_word,
        help="whose embedding the new word starts from",
    )
    for name, text in (
        ("augment", "shrink and enlarge photos"),
        ("flip", "mirror half the photos"),
    ):
        p.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=True, help=text)
    p.add_argument("--checkpoint-every", type=int, default=50, metavar="STEPS")
    p.add_argument("--workdir", type=Path, help="for checkpoints (default: <output>.checkpoints)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    count = len(args.photos)
    tokens = args.token or [f"<new{i + 1}>" for i in range(count)]
    folders = args.regularisation or [
        args.output.parent / "regularisation" / word for word in args.classes
    ]
    for name, values in (("class", args.classes), ("token", tokens), ("regularisation", folders)):
        if len(values) != count:
            raise UserError(
                f"{count} --photos and {len(values)} --{name}: give one for each subject"
            )
    if min(args.steps, args.batch_size, args.checkpoint_every) < 1:
        raise UserError("--steps, --batch-size and --checkpoint-every must be at least 1")
    if args.regularisation_images < 0:
        raise UserError("--regularisation-images must not be negative")
    if args.threads:
        torch.set_num_threads(args.threads)
    started = time.time()

    def log(line: str) -> None:
        print(f"[{time.time() - started:6.1f} s] {line}", flush=True)

    concepts = cd.concepts_from(args.photos, args.classes, tokens)
    revision = args.revision if args.model else REVISION
    # Training in float16 would need loss scaling.
    half = "bfloat16" if args.device != "cpu" and torch.cuda.is_available() else "float32"
    parts = load_parts(args.model or MODEL, revision, args.device, half)
    cd.with_tokens(parts.tokenizer, tokens)
    factor = 2 ** (len(parts.vae.config.block_out_channels) - 1)
    settings = cd.Settings(
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        prior_weight=args.prior_weight,
        size=args.size or parts.unet.config.sample_size * factor,
        prompt=args.prompt,
        initial_word=args.initial_word,
        augment=args.augment,
        flip=args.flip,
        seed=args.seed,
    )
    check_size(parts, settings.size, factor)
    cd.check_prompts(parts.tokenizer, concepts, settings)
    if args.regularisation_images or args.regularisation:
        concepts = [
            replace(c, regularisation=cd.regularisation_images(
                parts, c.class_word, folder, args.regularisation_images, settings, log=log))
            for c, folder in zip(concepts, folders, strict=True)
        ]  # fmt: skip
    if args.only_regularisation:
        return 0
    workdir = args.workdir or args.output.with_name(args.output.name + ".checkpoints")
    checkpoint = workdir / "checkpoint.pt"
    personal = cd.train(parts, concepts, settings, checkpoint, args.checkpoint_every, log)
    seconds = time.time() - started
    personal.info["seconds"] = round(seconds, 1)
    personal.info["device"] = provenance.device(str(parts.device))
    cd.save_personal(args.output, personal)
    cd.remove_checkpoint(checkpoint)
    log(f"{', '.join(tokens)} learnt in {args.output}")
    return 0


def check_size(parts, size: int, factor: int) -> None:
    """Raise where the U-Net cannot halve the latents of such a photo as often as it does."""
    multiple = factor * 2 ** (len(parts.unet.config.down_block_types) - 1)
    if size < multiple or size % multiple:
        raise UserError(f"--size {size}: it must be a multiple of {multiple} for this model")


if __name__ == "__main__":
    sys.exit(run(main))
