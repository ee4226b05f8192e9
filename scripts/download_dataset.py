#!/usr/bin/env python3
"""Download a data set to its configured folder, check it, and write its manifest.

    python scripts/download_dataset.py --dataset voc --root resources/VOCdevkit/VOC2012 \\
        --splits train=1464 trainaug=10582 val=1449 --output resources/voc.json

Existing files are used. Missing ones are downloaded (with resuming and checksums) and unpacked;
derived ones (VOC's SegmentationClassAug, COCO's semantic masks) are built. Data sets that require an
account are unpacked from archives in downloads/ beside --output; without these, the error says what
to do. Sources, terms and checksums are in config/datasets.yaml.
"""

import sys
from pathlib import Path

from attnseg import datasets
from attnseg.app import flags
from attnseg.datasets import completeness
from attnseg.datasets.labels import leftovers
from attnseg.datasets.parts import get_parts
from attnseg.errors import UserError, run
from attnseg.io.files import write_json


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--root --processes", output="the manifest, a JSON file")
    flags.add(parser, "--dataset", required=True)
    parser.add_argument(
        "--source",
        default="download",
        choices=["download", "folder"],
        help="`folder`: it must be there already",
    )
    parser.add_argument(
        "--splits",
        required=True,
        nargs="+",
        metavar="NAME=IMAGES",
        help="splits and the number of images each must list",
    )
    parser.add_argument(
        "--without-masks", nargs="+", default=[], metavar="NAME", help="splits without ground truth"
    )
    parser.add_argument("--registry", type=Path, default=completeness.REGISTRY)
    flags.add(parser, "--labels", help="files whose labels are compared with the photos")
    args = parser.parse_args(argv)
    splits = parse_splits(args.splits)
    entry = completeness.entry_of(args.dataset, completeness.read_registry(args.registry))
    without = {*entry.get("splits_without_masks", []), *args.without_masks}
    states = check(args.dataset, args.root, splits, without)
    incomplete = [name for name, state in states.items() if state.problem]
    if args.source == "download" and incomplete:
        archives = args.output.parent / "downloads"
        get_parts(args.dataset, entry, args.root, splits, incomplete, archives, args.processes)
        states = check(args.dataset, args.root, splits, without)
    unlisted = set()
    if args.source == "folder":  # one's own photos need not fill every split that is configured
        unlisted = {name for name, state in states.items() if state.problem and not state.listed}
        if unlisted == set(states):
            unlisted = set()
    ids = [image_id for state in states.values() for image_id in state.ids]
    for line in leftovers(args.dataset, args.root, ids, args.labels):
        print(f"note: {line}", file=sys.stderr)
    content = completeness.manifest(args.dataset, entry, args.root, splits, states, unlisted)
    write_json(args.output, content)
    return 0


def parse_splits(texts: list[str]) -> dict[str, int]:
    splits = {}
    for text in texts:
        name, _, images = text.partition("=")
        if not images.isdigit():
            raise UserError(f"--splits {text}: write it as NAME=IMAGES")
        splits[name] = int(images)
    return splits


def check(dataset: datasets.Dataset, root: Path, splits: dict[str, int], without: set[str]) -> dict:
    """The state of each split on disk. `without`: splits that need no masks."""
    return {
        name: completeness.split_state(dataset, root, name, images, masks=name not in without)
        for name, images in splits.items()
    }


if __name__ == "__main__":
    sys.exit(run(main))
