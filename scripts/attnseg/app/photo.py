"""One photo to labels, as `attnseg segment` is asked to: by classes, or by a query for a subject."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from attnseg.app.options import words_of
from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.core.crf import densecrf
from attnseg.datasets import Dataset
from attnseg.datasets.images import read_image
from attnseg.datasets.voc import DATASET as USUAL
from attnseg.errors import UserError
from attnseg.io.gpu import claim_device
from attnseg.personalised.instances import locate
from attnseg.personalised.personal import Personal, check_base, check_identifier, read_personal
from attnseg.settings.cli import assigned
from attnseg.text2mask.options import Options, options_for
from attnseg.text2mask.segment import segment
from attnseg.text2mask.sizes import refinement_for


def by_classes(args: argparse.Namespace) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The classes, the photo [H, W, 3] uint8, and the classes' numbers in it [H, W] uint8."""
    classes = named_classes(args.classes)
    image = read_image(args.photo, turn=args.exif == "turn")
    changed = refinement(args)
    backbone = loaded(args)
    options = asked(backbone, args, noises=4, vocabulary=vocabulary(args, classes))
    labels, _ = segment(
        backbone,
        image,
        classes,
        crf=args.crf,
        options=options,
        name=args.photo.stem,
        refinement=changed,
    )
    return classes, image, labels


def named_classes(text: str) -> list[str]:
    """The classes of --classes."""
    classes = words_of(text)
    if not classes or len(set(classes)) != len(classes):
        raise UserError("--classes: name each class once, as in --classes dog,sofa")
    if len(classes) > 255:
        raise UserError(f"--classes: {len(classes)} classes; a mask holds 255")
    return classes


def vocabulary(args: argparse.Namespace, classes: Sequence[str]) -> Dataset:
    """The words of the query: VOC's synonyms, those given over them, and background words.

    Raises:
        UserError: if a synonym is for none of the classes.
    """
    words = USUAL
    if args.synonyms is not None:
        pairs = [part.partition("=") for part in words_of(args.synonyms)]
        for name, equals, synonym in pairs:
            if name.strip() not in classes or not equals or not synonym.strip():
                raise UserError(
                    f"--synonyms {name}{equals}{synonym}: write class=word, for one of "
                    f"{', '.join(classes)}"
                )
        given = {name.strip(): word.strip() for name, _, word in pairs}
        words = replace(words, synonyms={**words.synonyms, **given})
    if args.background_words is not None:
        words = replace(words, background_words=tuple(words_of(args.background_words)))
    return words


def refinement(args: argparse.Namespace) -> dict:
    """The keys of --set, checked."""
    given = assigned(args.set)
    if unknown := given.keys() - {"background", "crf"}:
        raise UserError(
            f"--set {min(unknown)}: only keys of background and crf, as background.power=3"
        )
    refinement_for((1, 1), args.crf, given)
    return given


def loaded(args: argparse.Namespace) -> Backbone:
    """The model of --model."""
    if args.crf:
        densecrf()  # says what is missing before the model is loaded
    device = claim_device(args.device)
    return load_backbone(args.model, args.revision, device, file=args.model_file)


def by_query(args: argparse.Namespace) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The query, the photo [H, W, 3] uint8, and where what it means is: [H, W] uint8, 1 there."""
    if args.query is None:
        raise UserError("--personal needs --query, as in --query 'the <new1> mug'")
    personal = read_personal(args.personal)
    check_identifier(args.query, personal)
    image = read_image(args.photo, turn=args.exif == "turn")
    model, revision = base_of(personal) if args.model is None else (args.model, args.revision)
    backbone = stable_diffusion(load_backbone(model, revision, claim_device(args.device)))
    check_base(backbone, personal, str(args.personal))
    mask = locate(
        backbone,
        personal,
        image,
        args.query,
        asked(backbone, args, noises=1),
        instances=args.instances,
        threshold=args.foreground_threshold,
        locality=args.locality,
    )
    return [args.query], image, mask.astype(np.uint8)


def base_of(personal: Personal) -> tuple[str, str | None]:
    """The model that personal weights are for: a folder, or an id on the hub and its revision."""
    name = personal.info["model"]
    path, at, revision = name.rpartition("@")
    return (path, revision) if at and not Path(name).is_dir() else (name, None)


def asked(backbone: Backbone, args: argparse.Namespace, noises: int, **more: Any) -> Options:
    """The options of the command line, else what is usual for the model."""
    blocks = args.cross_blocks, args.self_block
    if args.iterations is not None:
        more["iterations"] = args.iterations
    more |= {"noises": args.noises or noises, "seed": args.seed, "reading": args.reading}
    return options_for(backbone, *blocks, **more)
