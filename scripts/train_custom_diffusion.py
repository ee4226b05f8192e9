#!/usr/bin/env python3
"""Teach Stable Diffusion a subject from a few photos (Custom Diffusion).

    python scripts/train_custom_diffusion.py --photos my_photos --class mug --output my_mug

Trains the embedding of a new word, <new1>, and the keys and values of the cross-attention, with prior
preservation on generated images of the class (or those of --regularisation). If --photos, --class and
--token are repeated, several subjects are trained jointly. The defaults are the paper's: about 6
minutes on two A100s. With --mug19 each subject of that folder is trained separately, in
<output>/<subject>; --part K/N selects every N-th of them.

If interrupted, the same command resumes from the last checkpoint and ends with the same weights. The
output folder also loads into a stock diffusers pipeline: see attnseg.personalised.personal.
"""

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from attnseg.backbones import load_backbone
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.datasets.mug19 import photos_in, read_mug19
from attnseg.errors import UserError, run
from attnseg.io import provenance
from attnseg.io.files import write_json
from attnseg.io.gpu import claim_device, training_dtype
from attnseg.personalised import custom_diffusion as cd
from attnseg.personalised.personal import read_personal, save_personal, with_tokens
from attnseg.settings import Model, SubjectTrainingJob
from attnseg.settings.cli import add_settings, given_settings

MODEL = Model()


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    add_settings(p, SubjectTrainingJob)
    p.add_argument(
        "--photos", type=Path, action="append", default=[], help="folder of 5 to 10 photos"
    )
    p.add_argument("--class", dest="classes", action="append", default=[], help="its word, as mug")
    p.add_argument("--mug19", type=Path, metavar="ROOT", help="the subjects of a Mug19 folder")
    p.add_argument(
        "--part", type=part, default=(0, 1), metavar="K/N", help="K from 0 (with --mug19)"
    )
    p.add_argument("--token", action="append", help="the new word (default <new1>, <new2>, ...)")
    p.add_argument("--output", type=Path, required=True, help="folder for the weights")
    p.add_argument("--model", help=f"folder or hub id of a Stable Diffusion (default {MODEL.path})")
    p.add_argument("--revision", help="of a hub id")
    p.add_argument(
        "--regularisation",
        type=Path,
        action="append",
        help="folder of images of the class; missing ones are generated there "
        "(default: beside the output, regularisation/<class>)",
    )
    p.add_argument(
        "--only-regularisation",
        action="store_true",
        help="generate the images of the class, and stop",
    )
    p.add_argument("--workdir", type=Path, help="for checkpoints (default: <output>.checkpoints)")
    p.add_argument("--summary", type=Path, metavar="JSON", help="what was done, written last")
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    p.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")
    return p


def part(text: str) -> tuple[int, int]:
    """ "0/2" -> (0, 2)."""
    try:
        number, count = map(int, text.split("/"))
    except ValueError:
        number, count = -1, 0
    if not 0 <= number < count:
        raise argparse.ArgumentTypeError(f"{text}: write it as 0/2, the first of two parts")
    return number, count


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    settings = given_settings(args, SubjectTrainingJob)
    if args.threads:
        torch.set_num_threads(args.threads)
    started = time.time()

    def log(line: str) -> None:
        print(f"[{time.time() - started:6.1f} s] {line}", flush=True)

    lessons = subjects_of(args) if args.mug19 else {args.output: given(args)}
    revision = args.revision if args.model else MODEL.revision
    device = claim_device(args.device)
    backbone = load_backbone(args.model or MODEL.path, revision, device, training_dtype(device))
    if settings.size is None:
        settings = settings.but(size=min(backbone.size))
    check_size(backbone, settings.size)
    for concepts in lessons.values():
        with_tokens(backbone.tokenizer, [concept.token for concept in concepts])
        cd.check_prompts(backbone.tokenizer, concepts, settings)
    for output, concepts in lessons.items():
        if settings.regularisation_images or args.regularisation:
            folders = regularisation_folders(args, concepts)
            concepts = [
                replace(c, regularisation=cd.regularisation_images(
                    backbone, c.class_word, folder, settings.regularisation_images, settings, log=log))
                for c, folder in zip(concepts, folders, strict=True)
            ]  # fmt: skip
        if not args.only_regularisation:
            learn(args, backbone, concepts, settings, output, log)
    if args.summary:
        write_json(args.summary, summary(args, lessons))
    return 0


def summary(args: argparse.Namespace, lessons: dict[Path, list[cd.Concept]]) -> dict:
    """Generate the images of each class, or train the subjects; return a summary."""
    if args.only_regularisation:
        words = {c.class_word: folder for concepts in lessons.values()
                 for c, folder in zip(concepts, regularisation_folders(args, concepts), strict=True)}  # fmt: skip
        return {word: len(photos_in(folder)) for word, folder in words.items()}
    return {output.name: read_personal(output).info["seconds"] for output in lessons}


def given(args: argparse.Namespace) -> list[cd.Concept]:
    """The subjects given on the command line, to be trained jointly."""
    count = len(args.photos)
    if not count:
        raise UserError("give --photos and --class, or --mug19")
    tokens = args.token or [f"<new{i + 1}>" for i in range(count)]
    folders = args.regularisation or args.photos
    for name, values in (("class", args.classes), ("token", tokens), ("regularisation", folders)):
        if len(values) != count:
            raise UserError(
                f"{count} --photos and {len(values)} --{name}: give one for each subject"
            )
    return cd.concepts_from(args.photos, args.classes, tokens)


def subjects_of(args: argparse.Namespace) -> dict[Path, list[cd.Concept]]:
    """Every N-th subject of a Mug19 folder, as {output folder: its concept}."""
    if args.photos or args.classes or args.regularisation or len(args.token or []) > 1:
        raise UserError("--mug19 takes photos and classes of its folder: give at most one --token")
    data = read_mug19(args.mug19)
    number, count = args.part
    return {
        args.output / subject: cd.concepts_from(
            [data.root / "subjects" / subject],
            [data.class_of(subject)],
            args.token or ["<new1>"],
        )
        for subject in sorted(data.subjects)[number::count]
    }


def regularisation_folders(args: argparse.Namespace, concepts: list[cd.Concept]) -> list[Path]:
    """Folders of the images of each concept's class."""
    return args.regularisation or [
        args.output.parent / "regularisation" / concept.class_word for concept in concepts
    ]


def learn(
    args,
    backbone: StableDiffusion,
    concepts: list[cd.Concept],
    settings: SubjectTrainingJob,
    output: Path,
    log,
) -> None:
    """Train the weights in `output`, unless those of the same plan exist."""
    if cd.is_trained(output, cd.plan_of(backbone, concepts, settings)):
        log(f"{output} is there already")
        return
    started = time.time()
    workdir = args.workdir or output.with_name(output.name + ".checkpoints")
    checkpoint = workdir / "checkpoint.pt"
    personal = cd.train(backbone, concepts, settings, checkpoint, settings.checkpoint_interval, log)
    personal.info["seconds"] = round(time.time() - started, 1)
    personal.info["device"] = provenance.device(str(backbone.device))
    save_personal(output, personal)
    cd.remove_checkpoint(checkpoint)
    log(f"{', '.join(concept.token for concept in concepts)} learnt in {output}")


def check_size(backbone: StableDiffusion, size: int) -> None:
    """Raise a `UserError` if the U-Net cannot halve the latents of a photo of this size."""
    multiple = backbone.multiple
    if size < multiple or size % multiple:
        raise UserError(f"size {size}: it must be a multiple of {multiple} for this model")


if __name__ == "__main__":
    sys.exit(run(main))
