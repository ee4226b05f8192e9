"""One photo to labels, as `attnseg segment` is asked to: by classes, or by a query for a subject."""

import argparse
from pathlib import Path

import numpy as np

from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.core.crf import densecrf
from attnseg.datasets.images import read_image
from attnseg.errors import UserError
from attnseg.io.gpu import claim_device
from attnseg.personalised.instances import locate
from attnseg.personalised.personal import Personal, check_base, check_identifier, read_personal
from attnseg.text2mask.extract import Options, options_for
from attnseg.text2mask.segment import segment


def by_classes(args: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """The classes, and their numbers [H, W] uint8."""
    classes = [name.strip() for name in args.classes.split(",") if name.strip()]
    if not classes or len(set(classes)) != len(classes):
        raise UserError("--classes: name each class once, as in --classes dog,sofa")
    if args.model is None:
        raise UserError("--model: name a folder or hub id of a Stable Diffusion")
    if args.crf:
        densecrf()  # says what is missing before the model is loaded
    image = read_image(args.photo)
    device = claim_device(args.device)
    backbone = load_backbone(args.model, args.revision, device, file=args.model_file)
    options = asked(backbone, args, noises=4)
    name = args.photo.stem
    labels, _ = segment(backbone, image, classes, crf=args.crf, options=options, name=name)
    return classes, labels


def by_query(args: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """The query, and where what it means is: [H, W] uint8, 1 there."""
    if args.query is None:
        raise UserError("--personal needs --query, as in --query 'the <new1> mug'")
    personal = read_personal(args.personal)
    check_identifier(args.query, personal)
    image = read_image(args.photo)
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
    return [args.query], mask.astype(np.uint8)


def base_of(personal: Personal) -> tuple[str, str | None]:
    """The model that personal weights are for: a folder, or an id on the hub and its revision."""
    name = personal.info["model"]
    path, at, revision = name.rpartition("@")
    return (path, revision) if at and not Path(name).is_dir() else (name, None)


def asked(backbone: Backbone, args: argparse.Namespace, noises: int) -> Options:
    """The options of the command line, else what is usual for the model."""
    noises = args.noises or noises
    return options_for(backbone, args.cross_blocks, args.self_block, noises=noises, seed=args.seed)
