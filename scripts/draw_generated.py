#!/usr/bin/env python3
"""Draw generated images, their attention maps, masks and reliability maps (attn2mask, Figures 4, 5)."""

import argparse
import sys
from pathlib import Path

from attnseg.errors import UserError, run
from attnseg.io.shards import read_shards
from attnseg.results.chosen import with_several_classes
from attnseg.results.generated_pictures import attention_figure


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attention", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--masks", type=Path, required=True, help="folder of their masks")
    parser.add_argument("--count", type=int, default=6, help="samples (default: 6)")
    parser.add_argument("--output", type=Path, required=True, help="the picture, PNG or SVG")
    args = parser.parse_args(argv)
    there = [
        (item, maps["cross"])
        for item, maps in read_shards(args.attention)
        if not item["skipped"] and (args.masks / f"{item['id']}.png").is_file()
    ]
    if not there:
        raise UserError(f"{args.masks} has no mask of a sample in {args.attention}")
    shown = with_several_classes(there, args.count)
    attention_figure(shown, args.images, args.masks, args.output)
    print(f"{len(shown)} samples in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
