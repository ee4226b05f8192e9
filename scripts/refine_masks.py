#!/usr/bin/env python3
"""Turn stored attention into pseudo masks: upsample, dense CRF, arg max.

Writes one palette PNG per photo, and finally manifest.json. --train-output writes a copy in which
pixels below `confidence` are 255, which the segmentor's training ignores. An interrupted run is resumed
with the missing photos.
"""

import functools
import os
import sys
from pathlib import Path

import numpy as np

from attnseg.app import flags
from attnseg.errors import run
from attnseg.io.items import write_items
from attnseg.io.shards import listed_shards, read_arrays, read_manifest
from attnseg.settings import RefinementJob
from attnseg.settings.cli import given_settings
from attnseg.text2mask.presence import present_classes, sentences
from attnseg.text2mask.refine import write_masks


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__,
        "--dataset --root --attention",
        output="folder of the masks",
        settings=RefinementJob,
    )
    flags.add(
        parser, "--split", help="needed if photos are in one folder per split", required=False
    )
    parser.add_argument("--train-output", type=Path, help="folder of the copy that trains")
    flags.add(parser, "--processes", default=os.cpu_count())
    args = parser.parse_args(argv)
    options = given_settings(args, RefinementJob)
    made_with = {
        "options": options.record(),
        "attention": [read_manifest(path)["sha256"] for path in listed_shards(args.attention)],
        **args.dataset.identity(),
    }
    jobs, found = read_arrays(args.attention), {}
    if options.presence is not None:
        where = args.dataset, args.root, args.split
        present = present_classes(options.presence, *where, read_arrays(args.attention))
        jobs, found = present.only(jobs), {"presence": present.about()}
        print(sentences(present.about()))
    folders = [args.output, *([args.train_output] if args.train_output else [])]
    work = functools.partial(write_masks, args.dataset, args.root, args.split, folders, options)
    items = write_items(
        folders, made_with | found, work, jobs, processes=args.processes,
        unit="photo",
    )  # fmt: skip
    ignored = np.mean([item["ignored"] for item in items]) if items else 0
    print(f"{len(items)} masks in {args.output}; {100 * ignored:.1f} % of pixels are not confident")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
