#!/usr/bin/env python3
"""The paper-scale rules on samples of VOC, COCO and Cityscapes: photos in, metrics out.

    python tests/run_samples.py --data my_samples --folder /tmp/samples

--data holds VOCdevkit/VOC2012, coco and cityscapes in their official layouts; some photos of each
will do, and are only read. What is made lies in --folder. The configuration is
tests/config/samples.yaml over config/config.yaml.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[1]
PAPER = REPOSITORY / "config" / "config.yaml"
SAMPLES = REPOSITORY / "tests" / "config" / "samples.yaml"
TARGETS = [
    "results/voc_coco_table2.csv",
    "results/attn2mask_cityscapes_table4.csv",
    "work/evaluation/segmentors/deeplabv2_voc/val/metrics.json",
    "results/coco_table4.csv",
]


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=os.environ.get("ATTNSEG_SAMPLES", REPOSITORY.parent / "shared" / "data"),
        help="(default: $ATTNSEG_SAMPLES, or shared/data beside the repository)",
    )
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--cores", default="2")
    parser.add_argument("snakemake", nargs="*", help="further arguments of snakemake, after --")
    args = parser.parse_args()
    if not args.data.is_dir():
        sys.exit(f"error: no samples at {args.data}: give --data (make test-samples DATA=folder)")
    prepare(args.data.resolve(), args.folder)
    model = args.folder / "resources/models/random_sd"
    if not (model / "model_index.json").is_file():
        make = REPOSITORY / "scripts/tools/make_random_sd.py"
        subprocess.run([sys.executable, make, "--width", "40", "--output", model], check=True)
    command = [
        Path(sys.executable).with_name("snakemake"), *TARGETS, "--snakefile", REPOSITORY / "Snakefile",
        "--directory", args.folder, "--cores", args.cores, "--configfile", PAPER, SAMPLES,
        *args.snakemake,
    ]  # fmt: skip
    return subprocess.run(command).returncode


def prepare(data: Path, folder: Path) -> None:
    """The data sets in `folder` as links to the samples, with lists as short as configured."""
    config = yaml.safe_load(SAMPLES.read_text())["datasets"]
    voc, sample = folder / "resources/VOCdevkit/VOC2012", data / "VOCdevkit/VOC2012"
    for name in ("JPEGImages", "SegmentationClassAug"):
        link(voc / name, sample / name)
    lists = voc / "ImageSets/Segmentation"
    lists.mkdir(parents=True, exist_ok=True)
    for split, source in (("train", "train"), ("trainaug", "train"), ("val", "val")):
        ids = (sample / "ImageSets/Segmentation" / f"{source}.txt").read_text().split()
        count = config["voc"]["splits"][split]["images"]
        (lists / f"{split}.txt").write_text("\n".join(ids[:count]) + "\n")
    coco = folder / "resources/coco"
    (coco / "annotations").mkdir(parents=True, exist_ok=True)
    for split in ("train", "val"):
        link(coco / f"{split}2017", data / f"coco/{split}2017")
        count = config["coco"]["splits"][split]["images"]
        name = f"annotations/instances_{split}2017.json"
        content = shortened(json.loads((data / "coco" / name).read_text()), count)
        (coco / name).write_text(json.dumps(content))
    subprocess.run(
        [sys.executable, REPOSITORY / "scripts/build_coco_masks.py", "--root", coco], check=True
    )
    for name in ("leftImg8bit", "gtFine"):
        link(folder / "resources/cityscapes" / name, data / "cityscapes" / name)


def link(place: Path, target: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(target, target_is_directory=True)


def shortened(content: dict, count: int) -> dict:
    """COCO annotations of the first `count` photos that have any."""
    annotated = {annotation["image_id"] for annotation in content["annotations"]}
    images = [image for image in content["images"] if image["id"] in annotated][:count]
    kept = {image["id"] for image in images}
    annotations = [a for a in content["annotations"] if a["image_id"] in kept]
    return content | {"images": images, "annotations": annotations}


if __name__ == "__main__":
    sys.exit(main())
