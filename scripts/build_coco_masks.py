#!/usr/bin/env python3
"""Rasterise COCO's instances to semantic masks, and index each split's images and classes.

    python scripts/build_coco_masks.py --root resources/coco --splits train val

Masks are palette PNGs in <root>/masks: 0 background, 1 to 80 the categories in the order of their
ids. Where instances overlap the last one is on top, crowds are left out. Existing masks are kept.
"""

import sys
from collections.abc import Iterable

from tqdm import tqdm

from attnseg import datasets
from attnseg.app import flags
from attnseg.datasets import coco_masks
from attnseg.datasets.coco import DATASET
from attnseg.errors import run


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__)
    flags.add(parser, "--dataset", default=DATASET, help=f"in COCO's layout: {datasets.HELP}")
    flags.add(parser, "--root", help="COCO's folder")
    parser.add_argument(
        "--splits", nargs="+", default=["train", "val"], help="as in train2014, or train"
    )
    args = parser.parse_args(argv)

    def progress(images: Iterable) -> tqdm:
        return tqdm(images, desc="masks", unit="", mininterval=2, disable=not sys.stderr.isatty())

    for split in args.splits:
        done = coco_masks.build_masks(args.root, split, progress, args.dataset)
        print(
            f"{done['split']}: {done['images']} images, {done['made']} masks made "
            f"-> {args.root / 'masks'}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
