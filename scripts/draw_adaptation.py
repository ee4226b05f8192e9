#!/usr/bin/env python3
"""Draw target photos, and images with attention without and with a LoRA (attn2mask, Figure 6)."""

import argparse
import sys
from pathlib import Path

import torch

from attnseg.errors import UserError, run
from attnseg.io.shards import read_shards
from attnseg.results.chosen import spread
from attnseg.results.generated_pictures import adaptation_figure

SUFFIXES = {".png", ".jpg", ".jpeg"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help="folder of the domain's photos")
    parser.add_argument(
        "--before", type=Path, required=True, help="generated without it: shards, images/"
    )
    parser.add_argument(
        "--after", type=Path, required=True, help="generated with it: shards, images/"
    )
    parser.add_argument("--count", type=int, default=6, help="pictures per row (default: 6)")
    parser.add_argument("--output", type=Path, required=True, help="the picture, PNG or SVG")
    args = parser.parse_args(argv)
    targets = spread(pictures(args.target), args.count)
    before, after = (spread(samples(folder), args.count) for folder in (args.before, args.after))
    adaptation_figure(targets, before, after, args.output)
    print(f"{args.count} pictures a row in {args.output}")
    return 0


def pictures(folder: Path) -> list[Path]:
    """All images below a folder, sorted by name."""
    found = sorted(path for path in folder.rglob("[!.]*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{folder}: no images; give the folder that contains them")
    return found


def samples(folder: Path) -> list[tuple[Path, torch.Tensor]]:
    """The generated images of a folder that were not skipped, with their maps [K, h, w]."""
    there = [
        (folder / "images" / item["image"], maps["cross"])
        for item, maps in read_shards(folder)
        if not item["skipped"]
    ]
    if not there:
        raise UserError(f"{folder}: every sample was skipped; see its manifests for the reasons")
    return there


if __name__ == "__main__":
    sys.exit(run(main))
