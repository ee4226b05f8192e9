#!/usr/bin/env python3
"""Extract the attention of one shard of photos: low-resolution maps of the classes present.

The defaults are the paper's. A complete shard made with the same parameters is kept.
"""

import argparse
import sys
from pathlib import Path

from attnseg import datasets
from attnseg.backbones import load_backbone
from attnseg.errors import UserError, run
from attnseg.io.gpu import claim_device
from attnseg.io.shards import members
from attnseg.settings import PROFILES, ExtractionJob
from attnseg.settings.cli import add_settings, given_settings
from attnseg.text2mask.extract import Options
from attnseg.text2mask.shard import extract_shard


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, ExtractionJob)
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="name of the split's list")
    parser.add_argument("--images", type=int, help="how many the list must have")
    parser.add_argument("--labels", help="source of the image labels (default: the data set's)")
    parser.add_argument("--shard", type=int, default=0, help="number of the shard")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument(
        "--model-file", help="Python file that exports the model's family, BACKBONE"
    )
    parser.add_argument("--output", type=Path, required=True, help="shard-NNNNN.safetensors")
    parser.add_argument(
        "--vocabulary", type=datasets.load, help="another data set, for its words in queries"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    settings = given_settings(args, ExtractionJob)
    dataset, profile = args.dataset, PROFILES[settings.profile]
    options = Options(
        **settings.dump(),
        vocabulary=args.vocabulary or dataset,
        box_threshold=dataset.official_box_threshold if profile.box_mask else None,
    )
    ids = dataset.read_split(args.root, args.split)
    if args.images is not None and len(ids) != args.images:
        raise UserError(
            f"{args.root}: split {args.split} lists {len(ids)} images, the configuration says "
            f"{args.images}: correct datasets.{dataset.name}.splits.{args.split}.images"
        )
    ids = members(ids, args.shard, options.shard_size)
    source = args.labels or ("mask" if profile.labels_from_masks else dataset.label_sources[0])
    device = claim_device(args.device)
    backbone = load_backbone(args.model, args.revision, device, file=args.model_file)
    extract_shard(args.output, backbone, dataset, args.root, args.split, source, ids, options)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
