"""Segment one photo by naming what is in it.

    attnseg segment photo.jpg --classes dog,sofa --model CompVis/stable-diffusion-v1-4 \\
        --revision 133a221b8aa7292a167afc5127cb63fb5005638b --output mask.png --overlay overlay.png

or a thing of one's own, learnt by `attnseg train-subject`, among others of its class:

    attnseg segment scene.jpg --personal my_mug --query "the <new1> mug filled with cola" \\
        --output mask.png --overlay overlay.png

The mask is a palette PNG: 0 is the background, 1, 2, ... the classes in the order given, or the one
thing that the query means. Name only what is in the photo: each class named is looked for, and found.
"""

import argparse
from pathlib import Path

from attnseg.app import flags
from attnseg.app.options import count
from attnseg.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("photo", type=Path, help="JPEG, PNG, ...")
    parser.add_argument("--classes", help="what is in it, separated by commas")
    parser.add_argument("--personal", type=Path, help="folder of `attnseg train-subject`")
    parser.add_argument("--query", help="with --personal, as in 'the <new1> mug filled with cola'")
    parser.add_argument(
        "--model",
        help="folder or hub id of a Stable Diffusion (with --personal, by default the one it is for)",
    )
    flags.add(parser, "--revision --model-file --device")
    flags.add(parser, "--output", help="mask (PNG)")
    parser.add_argument(
        "--overlay",
        type=Path,
        help="picture of the photo with the mask over it, and the names below (PNG, JPEG, ...)",
    )
    parser.add_argument(
        "--noises",
        type=count,
        help="maps averaged (default 4, with --personal the paper's 1)",
    )
    parser.add_argument(
        "--crf",
        action=argparse.BooleanOptionalAction,
        help="refine the edges with a dense CRF (the extra `crf`)",
    )
    parser.set_defaults(crf=True)
    parser.add_argument(
        "--cross-blocks", type=int, nargs="+", metavar="BLOCK", help="default: the model's usual"
    )
    parser.add_argument(
        "--self-block", type=int, metavar="BLOCK", help="default: the model's usual"
    )
    parser.add_argument(
        "--instances", type=int, default=4, help="with --personal, how many of the class there are"
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
        help="with --personal, how near the cells of a thing are (default: no matter)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise")


def main(args: argparse.Namespace) -> int:
    if (args.classes is None) == (args.personal is None):
        raise UserError("give either --classes, or --personal and --query")
    if not args.photo.is_file():
        raise UserError(f"{args.photo}: no such photo; correct the path")
    if args.output.suffix.lower() != ".png":
        raise UserError(f"--output {args.output}: a mask is a PNG; name it ....png")
    if args.seed < 0:
        raise UserError(f"--seed {args.seed}: must be 0 or more")

    from attnseg.app import overlay, photo  # they import torch: after all that can be said at once

    if args.overlay:
        overlay.check_name(args.overlay)
    by = photo.by_classes if args.personal is None else photo.by_query
    names, labels = by(args)
    overlay.write_mask(args.output, labels)
    if args.overlay:
        overlay.write_overlay(args.overlay, photo.read_image(args.photo), labels, names)
    for number, name in enumerate(["background", *names]):
        share = 100 * (labels == number).mean()
        print(f"{number:3d}  {overlay.hexadecimal(number)}  {share:5.1f} %  {name}")
    return 0
