"""Subjects learnt as `attnseg train-subject` is asked to: photos to the weights of each."""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch

from attnseg.backbones import load_backbone
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.errors import UserError
from attnseg.io.gpu import claim_device, training_dtype
from attnseg.personalised import custom_diffusion as cd
from attnseg.personalised.personal import with_tokens
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
    started = time.monotonic()

    def log(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", flush=True)

    revision = args.revision if args.model else MODEL.revision
    device = claim_device(args.device)
    model, dtype = args.model or MODEL.path, training_dtype(device)
    backbone = stable_diffusion(load_backbone(model, revision, device, dtype))
    size = min(backbone.size) if settings.size is None else settings.size
    settings = settings.but(size=size)
    cd.check_size(backbone, size)
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
            workdir = args.workdir or output.with_name(f"{output.name}.checkpoints")
            cd.learn(backbone, concepts, settings, output, workdir, log)


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
    """The folders of the images of each concept's class, which may not exist yet."""
    return args.regularisation or [
        args.output.parent / "regularisation" / concept.class_word for concept in concepts
    ]
