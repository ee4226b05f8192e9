#!/usr/bin/env python3
"""Segment one photo, given the names of its classes.

    segment_image.py photo.jpg --classes dog,sofa --model CompVis/stable-diffusion-v1-4 \\
        --revision 133a221b8aa7292a167afc5127cb63fb5005638b --output mask.png --overlay overlay.png

or find an object of your own, trained by train_custom_diffusion.py, among others of its class:

    segment_image.py scene.jpg --personal my_mug --query "the <new1> mug filled with cola" \\
        --output mask.png --overlay overlay.png

The mask is a palette PNG: 0 is the background, 1, 2, ... are the classes in the given order, or 1 is
the object of the query.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.datasets.images import PALETTE, read_image, write_mask
from attnseg.errors import UserError, run
from attnseg.io.files import write_atomically
from attnseg.io.gpu import claim_device
from attnseg.personalised.instances import locate
from attnseg.personalised.personal import Personal, check_base, check_identifier, read_personal
from attnseg.text2mask.extract import Options, options_for
from attnseg.text2mask.segment import segment


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("--classes", help="what to find, separated by commas")
    parser.add_argument("--personal", type=Path, help="folder of train_custom_diffusion.py")
    parser.add_argument("--query", help="with --personal, as in 'the <new1> mug filled with cola'")
    parser.add_argument(
        "--model",
        help="folder or hub id of a Stable Diffusion (with --personal, by default the one it is for)",
    )
    parser.add_argument("--revision", help="commit of a hub id")
    parser.add_argument("--output", type=Path, required=True, help="mask (PNG)")
    parser.add_argument("--overlay", type=Path, help="picture of the photo with the mask over it")
    parser.add_argument(
        "--noises", type=int, help="maps averaged (default 4, with --personal the paper's 1)"
    )
    parser.add_argument(
        "--crf", action=argparse.BooleanOptionalAction, default=True, help="refine the edges"
    )
    parser.add_argument("--cross-blocks", type=int, nargs="+", help="default: the model's usual")
    parser.add_argument("--self-block", type=int, help="default: the model's usual")
    parser.add_argument(
        "--instances", type=int, default=4, help="with --personal, number of objects of the class"
    )
    parser.add_argument(
        "--foreground-threshold",
        type=float,
        help="with --personal, of the class's map (default: where x > (1 - x)^2)",
    )
    parser.add_argument(
        "--locality",
        type=float,
        metavar="CELLS",
        help="with --personal, spatial prior, std. dev. in cells (default: off)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    if (args.classes is None) == (args.personal is None):
        raise UserError("give either --classes, or --personal and --query")
    if args.personal is None:
        names, labels = by_classes(args)
    else:
        names, labels = by_query(args)
    write_mask(args.output, labels, PALETTE)
    if args.overlay:
        with write_atomically(args.overlay) as partial:
            Image.fromarray(overlay(read_image(args.photo), labels)).save(partial)
    for number, name in enumerate(["background", *names]):
        red, green, blue = PALETTE[number]
        share = 100 * (labels == number).mean()
        print(f"{number:3d}  #{red:02x}{green:02x}{blue:02x}  {share:5.1f} %  {name}")
    return 0


def by_classes(args: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """The classes, and their numbers [H, W] uint8."""
    classes = [name.strip() for name in args.classes.split(",") if name.strip()]
    if not classes or len(set(classes)) != len(classes):
        raise UserError("--classes: name each class once, as in --classes dog,sofa")
    if args.model is None:
        raise UserError("--model: name a folder or hub id of a Stable Diffusion")
    image = read_image(args.photo)
    backbone = load_backbone(args.model, args.revision, claim_device(args.device))
    options = given_options(backbone, args, noises=4)
    name = args.photo.stem
    labels, _ = segment(backbone, image, classes, crf=args.crf, options=options, name=name)
    return classes, labels


def by_query(args: argparse.Namespace) -> tuple[list[str], np.ndarray]:
    """The query, and the mask of its object: [H, W] uint8, 1 inside."""
    if args.query is None:
        raise UserError("--personal needs --query, as in --query 'the <new1> mug'")
    personal = read_personal(args.personal)
    check_identifier(args.query, personal)
    image = read_image(args.photo)
    model, revision = base_of(personal) if args.model is None else (args.model, args.revision)
    backbone = load_backbone(model, revision, claim_device(args.device))
    check_base(backbone, personal, str(args.personal))
    mask = locate(
        backbone,
        personal,
        image,
        args.query,
        given_options(backbone, args, noises=1),
        instances=args.instances,
        threshold=args.foreground_threshold,
        locality=args.locality,
    )
    return [args.query], mask.astype(np.uint8)


def base_of(personal: Personal) -> tuple[str, str | None]:
    """The base model of personal weights: a folder, or an id on the hub and its revision."""
    name = personal.info["model"]
    path, at, revision = name.rpartition("@")
    return (path, revision) if at and not Path(name).is_dir() else (name, None)


def given_options(backbone: Backbone, args: argparse.Namespace, noises: int) -> Options:
    """The options given on the command line, by default those that suit the model."""
    noises = args.noises or noises
    return options_for(backbone, args.cross_blocks, args.self_block, noises=noises, seed=args.seed)


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Blend the photo with the classes' colours: [H, W, 3] uint8."""
    colours = PALETTE[labels].astype(np.float32)
    mixed = np.where(labels[..., None] > 0, 0.45 * image + 0.55 * colours, image)
    return mixed.round().astype(np.uint8)


if __name__ == "__main__":
    sys.exit(run(main))
