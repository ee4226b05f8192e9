#!/usr/bin/env python3
"""Check that a data set lies where the configuration says, and write a manifest of its splits.

    python scripts/download_dataset.py --dataset voc --root resources/VOCdevkit/VOC2012 \\
        --splits train=1464 trainaug=10582 val=1449 --output resources/voc.json

Downloads nothing yet: what is missing is refused, with where to get it and the key of the
configuration that names a folder where it already lies.
"""

import argparse
import json
import sys
from pathlib import Path

from attnseg.errors import UserError, run
from attnseg.files import sha256, write_json

VOC_SITE = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/"
SBD_SITE = "http://home.bharathh.info/pubs/codes/SBD/download.html"
COCO_SITE = "https://cocodataset.org/#download"

# on-disk layout -> (a split's list, what to get)
LAYOUTS = {
    "voc": (
        "ImageSets/Segmentation/{split}.txt",
        f"PASCAL VOC 2012 from {VOC_SITE}, its SBD annotations (trainaug) from {SBD_SITE}",
    ),
    "coco": (
        "annotations/instances_{split}2014.json",
        f"COCO 2014's images and annotations from {COCO_SITE}",
    ),
}


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--dataset", required=True, choices=list(LAYOUTS), help="the layout on disk")
    p.add_argument("--root", required=True, type=Path, help="the data set's folder, as in .../VOC2012")
    p.add_argument("--source", default="download", choices=["download", "folder"], help="`folder`: it must lie there already")
    p.add_argument("--splits", required=True, nargs="+", metavar="NAME=IMAGES", help="splits and the number of images each must list")
    p.add_argument("--output", required=True, type=Path, help="the manifest, a JSON file")
    return p


def listed(path: Path) -> int:
    """The number of images in a split's list."""
    if path.suffix != ".json":
        return len(path.read_text().split())
    try:
        content = json.loads(path.read_text())
        return len({annotation["image_id"] for annotation in content["annotations"]})
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no COCO annotation file ({error}); download it again") from None


def check_splits(dataset: str, root: Path, splits: dict[str, int]) -> dict[str, dict]:
    """{split: {list, images, sha256}}. Raises UserError for a missing list or a wrong number."""
    pattern, source = LAYOUTS[dataset]
    lists = {name: root / pattern.format(split=name) for name in splits}
    missing = [str(path) for path in lists.values() if not path.is_file()]
    if missing:
        raise UserError(
            f"{', '.join(missing)} missing: put {source} in {root}, "
            f"or set datasets.{dataset}.root to where it lies"
        )
    for name, path in lists.items():
        if listed(path) != splits[name]:
            raise UserError(
                f"{path} lists {listed(path)} images, datasets.{dataset}.splits.{name}.images says "
                f"{splits[name]}: correct the number, or get the official list"
            )
    return {
        name: {"list": str(path), "images": splits[name], "sha256": sha256(path)}
        for name, path in lists.items()
    }


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    splits = {}
    for text in args.splits:
        name, _, images = text.partition("=")
        if not images.isdigit():
            raise UserError(f"--splits {text}: write it as NAME=IMAGES")
        splits[name] = int(images)
    manifest = {"dataset": args.dataset, "root": str(args.root)}
    write_json(args.output, manifest | {"splits": check_splits(args.dataset, args.root, splits)})
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
