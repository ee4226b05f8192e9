#!/usr/bin/env python3
"""Turn the stored attention of generated images into masks and reliability maps.

Writes one palette PNG per image, reliability/<id>.png (255 if reliable, else 0), and finally
manifest.json; skipped samples have neither. The defaults are attn2mask's: min-max maps, beta 0.2, the
dense CRF with SimpleCRF's defaults, r 0.5. An interrupted run is resumed with the missing images.

Masks have the data set's class numbers. If it has no background class, background pixels are 255,
ignored.
"""

import functools
import itertools
import os
import sys

import numpy as np

from attnseg import datasets
from attnseg.app import flags
from attnseg.attn2mask.labelling import write_labels
from attnseg.errors import UserError, run
from attnseg.io.files import is_same
from attnseg.io.items import write_items
from attnseg.io.shards import listed_shards, read_arrays, read_manifest, withdrawn
from attnseg.settings import LabellingJob
from attnseg.settings.cli import given_settings


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__, "--attention --images --limit", output="folder of the masks", settings=LabellingJob
    )
    flags.add(parser, "--dataset", required=True, help=f"whose class numbers: {datasets.HELP}")
    parser.add_argument(
        "--keep-skipped",
        action="store_true",
        help="a mask of background for skipped photos (null-text inversion of an evaluated split)",
    )
    flags.add(parser, "--processes", default=os.cpu_count())
    args = parser.parse_args(argv)
    options = given_settings(args, LabellingJob)
    attention, images = [], 0
    for path in listed_shards(args.attention):
        if args.limit is not None and images >= args.limit:
            break  # later shards may still be incomplete
        attention.append(read_manifest(path))
        images += len(attention[-1]["items"])
        for item in attention[-1]["items"]:
            if "photo" in item and not is_same(args.images / item["image"], item["photo"]):
                lost = f"the image {item['image']} is missing or damaged"
                raise UserError(f"{path}: {withdrawn(path, lost)}")
    made_with = {
        "options": options.record(),
        "dataset": args.dataset.name,
        **args.dataset.identity(),
        "keep_skipped": args.keep_skipped,
        "model": attention[0]["parameters"].get("model") if attention else None,
        "attention": [manifest["sha256"] for manifest in attention],
    }
    work = functools.partial(
        write_labels, args.dataset, args.images, args.output, options, args.keep_skipped
    )
    items = write_items(
        [args.output], made_with, work, itertools.islice(read_arrays(args.attention), args.limit),
        processes=args.processes, names=["{id}.png", "reliability/{id}.png"], unit="image",
        precision=attention[0].get("precision") if attention else None,
    )  # fmt: skip
    made = [item for item in items if not item["skipped"]]
    reliable = np.mean([item["reliable"] for item in made]) if made else 0
    print(
        f"{len(made)} masks, {len(items) - len(made)} skipped, {100 * reliable:.1f} % of pixels "
        f"reliable -> {args.output}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
