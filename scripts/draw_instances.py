#!/usr/bin/env python3
"""Draw subject, scene, each method's prediction and ground truth (Text2Mask, Figure 5).

Triplets are evenly spaced in the special splits, not chosen by score.
"""

import argparse
import sys
from pathlib import Path

from attnseg.errors import UserError, run
from attnseg.personalised.pictures import draw
from attnseg.settings import Personalised


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="Mug19 folder")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="output folder of segment_instances.py"
    )
    parser.add_argument(
        "--count", type=int, default=Personalised().pictures, help="approximate number of triplets"
    )
    parser.add_argument("--output", type=Path, required=True, help="PNG or SVG")
    args = parser.parse_args(argv)
    if args.count < 1:
        raise UserError("--count must be at least 1")
    draw(args.root, args.predictions, args.count, args.output)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
