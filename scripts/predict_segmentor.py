#!/usr/bin/env python3
"""Predict a split with a trained segmentor; evaluate_segmentor.py refines and scores what this writes.

Writes compact scores in shards to --output, then manifest.json. An interrupted run is resumed with the
missing shards.
"""

import sys
from pathlib import Path

from attnseg.app import flags
from attnseg.errors import run
from attnseg.io.files import write_json
from attnseg.segmentation.data import split_pairs
from attnseg.settings import TestJob
from attnseg.settings.cli import given_settings


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__, "--dataset --root --device", output="folder of the scores", settings=TestJob
    )
    parser.add_argument("--weights", type=Path, required=True, help="of train_segmentor.py")
    flags.add(parser, "--split", help="split to predict, such as val")
    args = parser.parse_args(argv)
    # not at the top: importing it takes seconds, also for --help and wrong arguments
    from attnseg.segmentation.predict import write_scores

    test = given_settings(args, TestJob)
    _, pairs = split_pairs(args.dataset, args.root, args.split)
    pairs.check("check the data set", masks=False)
    shards = write_scores(args.output, pairs, args.weights, test, args.device)
    write_json(args.output / "manifest.json", {"shards": [path.name for path in shards]})
    size = sum(path.stat().st_size for path in shards) / 2**20
    print(f"scores of {len(pairs.ids)} photos, {size:.1f} MiB -> {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
