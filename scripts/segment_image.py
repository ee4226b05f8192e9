#!/usr/bin/env python3
"""Segment one photo by naming what is in it.

    segment_image.py photo.jpg --classes dog,sofa --model CompVis/stable-diffusion-v1-4 \\
        --revision 133a221b8aa7292a167afc5127cb63fb5005638b --output mask.png --overlay overlay.png

The mask is a palette PNG: 0 is the background, 1, 2, ... the classes in the order given.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from attnseg.datasets.images import read_image, write_mask
from attnseg.datasets.voc import PALETTE
from attnseg.diffusion.attention import default_blocks
from attnseg.diffusion.extract import Options, Sample, extract
from attnseg.diffusion.geometry import Fit
from attnseg.diffusion.load import load_parts
from attnseg.errors import UserError, run
from attnseg.files import write_atomically
from attnseg.masks.crf import CrfOptions
from attnseg.masks.refine import RefineOptions, refine

DIAGONAL = 625  # of a VOC photo, pixels, where the CRF's bilateral width is 67


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photo", type=Path)
    parser.add_argument("--classes", required=True, help="what to find, separated by commas")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="commit of a hub id")
    parser.add_argument("--output", type=Path, required=True, help="mask (PNG)")
    parser.add_argument("--overlay", type=Path, help="picture of the photo with the mask over it")
    parser.add_argument("--noises", type=int, default=4, help="maps averaged (default 4)")
    parser.add_argument(
        "--crf", action=argparse.BooleanOptionalAction, default=True, help="refine the edges"
    )
    parser.add_argument("--cross-blocks", type=int, nargs="+", help="default: the model's usual")
    parser.add_argument("--self-block", type=int, help="default: the model's usual")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    classes = [name.strip() for name in args.classes.split(",") if name.strip()]
    if not classes or len(set(classes)) != len(classes):
        raise UserError("--classes: name each class once, as in --classes dog,sofa")
    image = read_image(args.photo)
    parts = load_parts(args.model, revision=args.revision, device=args.device)
    cross_blocks, self_block = default_blocks(parts.unet)
    options = Options(
        cross_blocks=tuple(args.cross_blocks or cross_blocks),
        self_block=self_block if args.self_block is None else args.self_block,
        noises=args.noises,
        resize="official" if parts.unet.config.sample_size >= 64 else "native",
        seed=args.seed,
    )
    tensors, (item,) = extract(parts, [Sample(args.photo.stem, image, classes)], options)
    maps = tensors[f"{args.photo.stem}/selfcross"].float()
    scale = np.hypot(*image.shape[:2]) / DIAGONAL
    crf = CrfOptions(bilateral_sxy=max(1.0, 67 * scale)) if args.crf else None
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    labels, _ = refine(image, maps, fit, RefineOptions(crf=crf))
    write_mask(args.output, labels, PALETTE)
    if args.overlay:
        with write_atomically(args.overlay) as partial:
            Image.fromarray(overlay(image, labels)).save(partial)
    for number, name in enumerate(["background", *classes]):
        red, green, blue = PALETTE[number]
        share = 100 * (labels == number).mean()
        print(f"{number:3d}  #{red:02x}{green:02x}{blue:02x}  {share:5.1f} %  {name}")
    if item["skipped"]:
        print(f"no attention at all for: {', '.join(item['skipped'])}", file=sys.stderr)
    return 0


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The photo with the classes' colours half over it: [H, W, 3] uint8."""
    colours = PALETTE[labels].astype(np.float32)
    mixed = np.where(labels[..., None] > 0, 0.45 * image + 0.55 * colours, image)
    return mixed.round().astype(np.uint8)


if __name__ == "__main__":
    sys.exit(run(main))
