#!/usr/bin/env python3
"""Write masks of model-free baselines.

The kinds:
    all_background   every pixel is background
    random_labels    every pixel is the background or a class of the image, with equal probability
"""

import argparse
import functools
import sys

import numpy as np
from PIL import Image

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io.files import parameters_hash
from attnseg.io.items import write_items

KINDS = ("all_background", "random_labels")


def parser() -> argparse.ArgumentParser:
    p = flags.program(
        __doc__,
        "--dataset --root --split --labels --seed",
        output="folder for <id>.png and manifest.json",
    )
    p.add_argument("--kind", required=True, choices=KINDS, help="which masks")
    return p


def random_mask(numbers: list[int], size: tuple[int, int], seed: int, image_id: str) -> np.ndarray:
    """Random `numbers`, equally likely, [height, width] uint8; seeded by seed and image."""
    digits = parameters_hash({"seed": seed, "id": image_id})
    chosen = np.random.default_rng(int(digits, 16)).integers(len(numbers), size=size)
    return np.asarray(numbers, np.uint8)[chosen]


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    dataset = args.dataset
    if not dataset.background and args.kind == "all_background":
        raise UserError(f"{dataset.name} has no background: take --kind random_labels")
    ids = dataset.read_split(args.root, args.split)
    source = args.labels or dataset.label_sources[0]
    parameters = {"kind": args.kind, "labels": source, "seed": args.seed}
    work = functools.partial(write_reference, args, source)
    write_items([args.output], parameters, work, ids)
    return 0


def write_reference(args: argparse.Namespace, source: str, image_id: str) -> dict:
    """Write the mask of one image; returns its manifest entry."""
    dataset = args.dataset
    photo = dataset.image_path(args.root, image_id, args.split)
    try:
        with Image.open(photo) as image:
            size = (image.height, image.width)
    except OSError as error:
        raise UserError(f"{photo}: {error}; restore it from the data set's archive") from None
    numbers = [0] if dataset.background else []
    if args.kind == "random_labels":
        names = dataset.labels(args.root, image_id, source, args.split)
        numbers += [dataset.number(name) for name in names]
    mask = random_mask(numbers, size, args.seed, image_id)
    dataset.write_mask(args.output / f"{image_id}.png", mask)
    return {"id": image_id}


if __name__ == "__main__":
    sys.exit(run(main))
