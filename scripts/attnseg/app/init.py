"""Start a project of your own photos and classes: write one YAML file for the workflow, in a clone.

    attnseg init pets --photos /data/pets --classes dog,cat,sofa
    snakemake --cores all --resources gpu=1 --configfile pets.yaml

makes masks of all photos, a segmentor trained on them, a picture of samples and a report. Photos may
lie in folders below, in any format that Pillow reads. Which classes are in a photo is said by
labels.csv in that folder (columns id, the photo's path without suffix, and classes, separated by
semicolons) or by the name of the folder that it is in. Where neither is there, every class is looked
for in every photo, which finds things that are not there.

--masks is a folder of ground-truth masks, <id>.png, 0 the background and 1, 2, ... the classes; with it
the quality of the masks is measured, and that of the segmentor.
"""

import argparse
import os
import re
from pathlib import Path

import yaml

from attnseg import datasets
from attnseg.app.options import clone, words_of
from attnseg.errors import UserError
from attnseg.io.files import write_atomically

LABELS = ("csv", "folders", "all")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of the project: letters, digits and _")
    parser.add_argument("--photos", type=Path, required=True, help="folder of the photos")
    parser.add_argument("--classes", required=True, help="separated by commas")
    parser.add_argument(
        "--labels",
        choices=LABELS,
        help="what says which classes are in a photo: labels.csv, its folder's name, or nothing, in "
        "which case all are looked for (default: the first of these that is there)",
    )
    parser.add_argument("--masks", type=Path, help="folder of ground-truth masks, if you have them")
    parser.add_argument(
        "--synonyms", help="better words for classes, as in couch=sofa,tv=television"
    )
    parser.add_argument(
        "--background-words", help="what surrounds the classes (default: Text2Mask's)"
    )
    parser.add_argument("--output", type=Path, help="the file to write (default: <name>.yaml)")


def main(args: argparse.Namespace) -> int:
    clone("attnseg init")
    if not re.fullmatch(r"[A-Za-z]\w*", args.name):
        raise UserError(f"{args.name}: a name starts with a letter and has letters, digits and _")
    output = args.output or Path(f"{args.name}.yaml")
    if output.exists():
        raise UserError(f"{output}: exists already; remove it, or name another file with --output")
    entry = dataset_of(args)
    text = project(args.name, entry)
    with write_atomically(output) as partial:
        partial.write_text(text)
    count = entry["splits"]["train"]["images"]
    print(f"{output}: {count} photos, {len(entry['classes'])} classes, labels: {entry['labels']}")
    if entry["labels"] == "all":
        print(
            "note: without labels every class is looked for in every photo, and found; masks are better "
            f"with {args.photos / 'labels.csv'}: id,classes"
        )
    print(f"next: snakemake --cores all --resources gpu=1 --configfile {output}")
    print(f"to try it without a GPU: --configfile config/mini.yaml {output}")
    return 0


def dataset_of(args: argparse.Namespace) -> dict:
    """The entry of `datasets`.

    Raises:
        UserError: if the photos, labels or masks do not fit.
    """
    root = Path(os.path.abspath(args.photos))
    if not root.is_dir():
        raise UserError(f"{args.photos}: no such folder of photos; correct the path")
    entry: dict = {
        "source": "folder",
        "root": str(root),
        "classes": words_of(args.classes),
        "photos": "{id}.*",
        "splits": {"train": {"images": 1, "truth": args.masks is not None}},
    }
    if args.masks is not None:
        entry["masks"] = os.path.abspath(args.masks) + "/{id}.png"
    if args.synonyms is not None:
        entry["synonyms"] = dict(
            part.split("=", 1) for part in words_of(args.synonyms) if "=" in part
        )
    if args.background_words is not None:
        entry["background_words"] = words_of(args.background_words)
    facts = datasets.load(args.name, entry)
    ids = facts.read_split(root, "train")
    entry["splits"]["train"]["images"] = len(ids)
    entry["labels"] = args.labels or labels_of(facts, root, ids)
    facts = datasets.load(args.name, entry)
    for image_id in ids:
        facts.labels(root, image_id)
        if args.masks is not None and not facts.mask_path(root, image_id).is_file():
            raise UserError(f"{facts.mask_path(root, image_id)}: no such mask of a photo; add it")
    return entry


def labels_of(facts: datasets.Dataset, root: Path, ids: list[str]) -> str:
    """What says which classes are in the photos."""
    if (root / "labels.csv").is_file():
        return "csv"
    folders = {Path(image_id).parent.name for image_id in ids}
    return "folders" if folders <= set(facts.classes) else "all"


def project(name: str, entry: dict) -> str:
    """The file: what it makes, the data set, its picture and its segmentor."""
    made = f"<work>/evaluation/masks/{name}/train/base/crf/metrics.json"
    tested = f"<work>/evaluation/segmentors/{name}/train/metrics.json"
    count = entry["splits"]["train"]["images"]
    parts: list[tuple[str, dict]] = [
        (
            f"{name}: {count} photos, made by `attnseg init`.\n"
            f"#   snakemake --cores all --resources gpu=1 --configfile {name}.yaml\n"
            "# All keys: config/README.md; `attnseg config FILE` prints what holds in the end.",
            {"paths": {key: f"{key}/{name}" for key in ("work", "results", "resources")}},
        ),
        (
            "what is made: masks (<id>.png beside the manifest), a segmentor, a picture of samples",
            {
                "targets": [
                    f"<work>/masks/{name}/train/base/crf/manifest.json",
                    f"<work>/segmentors/{name}/weights.safetensors",
                    f"{name}_masks",
                    *([made, tested] if entry["splits"]["train"]["truth"] else []),
                ]
            },
        ),
        (
            "the number of photos must be right: jobs are planned before they are read",
            {"datasets": {name: entry}},
        ),
        (
            "",
            {
                "pictures": {
                    f"{name}_masks": {"dataset": name, "split": "train", "masks": "base/crf"}
                }
            },
        ),
        (
            "VOC's recipe, shorter: with few photos, longer trainings learn their mistakes",
            {
                "segmentors": {
                    name: {
                        "extends": "deeplabv2_voc",
                        "iterations": max(1000, min(20000, 4 * count)),
                        "train": {"dataset": name, "split": "train", "masks": "base/crf"},
                    }
                }
            },
        ),
    ]
    texts = []
    for comment, content in parts:
        written = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
        texts.append((f"# {comment}\n" if comment else "") + written)
    return "\n".join(texts)
