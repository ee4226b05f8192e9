#!/usr/bin/env python3
"""Write a split's ground truth in the class numbers used for training.

For data sets whose files have other numbers, such as ImageNet-S (1 for the image's own class, else 0)
and Cityscapes (train ids). Writes one palette PNG per image, and finally manifest.json.

    python scripts/write_true_masks.py --dataset imagenet_s --root resources/imagenet_s \\
        --split train-semi --output work/masks/imagenet_s/train-semi/truth
"""

import functools
import sys
from pathlib import Path

from attnseg import datasets
from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io.items import write_items


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--root --split", output="folder of the masks")
    flags.add(parser, "--dataset", required=True)
    args = parser.parse_args(argv)
    dataset = args.dataset
    if dataset.training_masks(args.split) is not None:
        raise UserError(f"--dataset {dataset.name}: train on its own masks, they need no copy")
    parameters = {"dataset": dataset.name, "split": args.split, "masks": "truth"}
    work = functools.partial(write_truth, dataset, args.root, args.split, args.output)
    items = write_items([args.output], parameters, work, dataset.read_split(args.root, args.split))
    print(f"{len(items)} masks -> {args.output}")
    return 0


def write_truth(
    dataset: datasets.Dataset, root: Path, split: str, output: Path, image_id: str
) -> dict:
    mask = dataset.read_truth(root, image_id, split=split)
    dataset.write_mask(output / f"{image_id}.png", mask)
    return {"id": image_id}


if __name__ == "__main__":
    sys.exit(run(main))
