#!/usr/bin/env python3
"""Write a split's ground truth in the class numbers used for training.

For data sets whose files have other numbers, such as ImageNet-S (1 for the image's own class, else 0)
and Cityscapes (train ids). Writes one palette PNG per image, and finally manifest.json.

    python scripts/write_true_masks.py --dataset imagenet_s --root resources/imagenet_s \\
        --split train-semi --output work/masks/imagenet_s/train-semi/truth
"""

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from attnseg import datasets
from attnseg.errors import UserError, run
from attnseg.io.files import write_json


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, type=datasets.load, help=datasets.HELP)
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="such as train-semi")
    parser.add_argument("--output", type=Path, required=True, help="folder of the masks")
    args = parser.parse_args(argv)
    dataset = args.dataset
    if dataset.training_masks(args.split) is not None:
        raise UserError(f"--dataset {dataset.name}: needs no copy; train on its own masks")
    ids = dataset.read_split(args.root, args.split)
    for image_id in tqdm(ids, desc="masks", unit="mask", mininterval=2, disable=None):
        mask = dataset.read_truth(args.root, image_id, split=args.split)
        dataset.write_mask(args.output / f"{image_id}.png", mask)
    parameters = {"dataset": dataset.name, "split": args.split, "masks": "truth"}
    items = [{"id": image_id} for image_id in ids]
    write_json(args.output / "manifest.json", {"parameters": parameters, "items": items})
    print(f"{len(ids)} masks -> {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
