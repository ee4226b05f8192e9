"""Subjects learnt as `attnseg train-subject` is asked to: photos to the weights of each."""

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from attnseg.backbones import load_backbone
from attnseg.backbones.stable_diffusion import StableDiffusion, stable_diffusion
from attnseg.errors import UserError
from attnseg.io import provenance
from attnseg.io.gpu import claim_device, training_dtype
from attnseg.personalised import custom_diffusion as cd
from attnseg.personalised.personal import save_personal, with_tokens
from attnseg.settings import Model, SubjectTrainingJob
from attnseg.settings.cli import given_settings

MODEL = Model()


def teach(
    args: argparse.Namespace,
    lessons: dict[Path, list[cd.Concept]],
    only_regularisation: bool = False,
) -> None:
    """Learn the concepts of each lesson together, and write their weights in its folder.

    With `only_regularisation` generate the images of the classes, and stop.
    """
    settings = given_settings(args, SubjectTrainingJob)
    if args.threads:
        torch.set_num_threads(args.threads)
    started = time.time()

    def log(line: str) -> None:
        print(f"[{time.time() - started:6.1f} s] {line}", flush=True)

    revision = args.revision if args.model else MODEL.revision
    device = claim_device(args.device)
    model, dtype = args.model or MODEL.path, training_dtype(device)
    backbone = stable_diffusion(load_backbone(model, revision, device, dtype))
    size = min(backbone.size) if settings.size is None else settings.size
    settings = settings.but(size=size)
    check_size(backbone, size)
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
        if not only_regularisation:
            learn(args, backbone, concepts, settings, output, log)


def given(args: argparse.Namespace) -> list[cd.Concept]:
    """The subjects of the command line, learnt together."""
    count = len(args.photos)
    if not count:
        raise UserError("give --photos and --class")
    tokens = args.token or [f"<new{i + 1}>" for i in range(count)]
    folders = args.regularisation or args.photos
    for name, values in (("class", args.classes), ("token", tokens), ("regularisation", folders)):
        if len(values) != count:
            raise UserError(
                f"{count} --photos and {len(values)} --{name}: give one for each subject"
            )
    return cd.concepts_from(args.photos, args.classes, tokens)


def regularisation_folders(args: argparse.Namespace, concepts: list[cd.Concept]) -> list[Path]:
    """Where the images of each concept's class are, or will be."""
    return args.regularisation or [
        args.output.parent / "regularisation" / concept.class_word for concept in concepts
    ]


def learn(
    args: argparse.Namespace,
    backbone: StableDiffusion,
    concepts: list[cd.Concept],
    settings: SubjectTrainingJob,
    output: Path,
    log: Callable[[str], None],
) -> None:
    """Write the weights in `output`, unless those of the same plan are there already."""
    if cd.is_learnt(output, cd.plan_of(backbone, concepts, settings)):
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
    """Raise where the U-Net cannot halve the latents of such a photo as often as it does."""
    multiple = backbone.multiple
    if size < multiple or size % multiple:
        raise UserError(f"size {size}: it must be a multiple of {multiple} for this model")
