#!/usr/bin/env python3
"""Extract the attention of one shard of photos: low-resolution maps of the classes present.

The defaults are the paper's. A complete shard made with the same parameters is kept.
"""

import sys

from attnseg.app import flags
from attnseg.backbones import load_backbone
from attnseg.errors import UserError, run
from attnseg.io.gpu import claim_device
from attnseg.io.shards import members
from attnseg.settings import PROFILES, ExtractionJob
from attnseg.settings.cli import given_settings
from attnseg.text2mask.options import options_of
from attnseg.text2mask.shard import extract_shard


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__,
        "--dataset --root --split --labels --shard --model --revision --model-file --vocabulary --device",
        output="shard-NNNNN.safetensors",
        settings=ExtractionJob,
    )
    parser.add_argument("--images", type=int, help="how many the list must have")
    args = parser.parse_args(argv)
    settings = given_settings(args, ExtractionJob)
    dataset, profile = args.dataset, PROFILES[settings.profile]
    ids = dataset.read_split(args.root, args.split)
    if args.images is not None and len(ids) != args.images:
        raise UserError(
            f"{args.root}: split {args.split} lists {len(ids)} images, the configuration says "
            f"{args.images}: correct datasets.{dataset.name}.splits.{args.split}.images"
        )
    ids = members(ids, args.shard, settings.shard_size)
    source = args.labels or ("mask" if profile.labels_from_masks else dataset.label_sources[0])
    device = claim_device(args.device)
    backbone = load_backbone(args.model, args.revision, device, file=args.model_file)
    options = options_of(
        backbone,
        settings,
        vocabulary=args.vocabulary or dataset,
        box_threshold=dataset.official_box_threshold if profile.box_mask else None,
    )
    extract_shard(args.output, backbone, dataset, args.root, args.split, source, ids, options)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
