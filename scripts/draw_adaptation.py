#!/usr/bin/env python3
"""Draw photos of a domain above images generated without and with its LoRA (attn2mask, Figure 6)."""

import argparse
import sys
from pathlib import Path

from attnseg.errors import UserError, run
from attnseg.evaluation.generated_pictures import adaptation_figure, spread

SUFFIXES = {".png", ".jpg", ".jpeg"}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, required=True, help="folder of the domain's photos")
    parser.add_argument("--before", type=Path, required=True, help="folder of images without it")
    parser.add_argument("--after", type=Path, required=True, help="folder of images with it")
    parser.add_argument("--count", type=int, default=6, help="pictures a row (default: 6)")
    parser.add_argument("--output", type=Path, required=True, help="the picture, PNG or SVG")
    args = parser.parse_args(argv)
    rows = [
        spread(pictures(folder), args.count) for folder in (args.target, args.before, args.after)
    ]
    adaptation_figure(*rows, args.output)
    print(f"{args.count} pictures a row in {args.output}")
    return 0


def pictures(folder: Path) -> list[Path]:
    """All pictures below a folder, in the order of their names."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise UserError(f"{folder} has no pictures; name the folder they are in")
    return found


if __name__ == "__main__":
    sys.exit(run(main))
