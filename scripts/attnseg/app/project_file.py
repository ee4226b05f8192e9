"""The YAML file that `attnseg init` writes, part by part."""

from pathlib import Path

import yaml

from attnseg.app.own_dataset import UNLABELLED

PRESENT = (
    "of photos without labels, a class is present from a score that is chosen on those with labels"
)
FURTHER = "masks of further photos by the segmentor, in the folder of that name in results"

Parts = list[tuple[str, dict]]  # (comment, what it is about)


def head(name: str, about: str, output: Path) -> tuple[str, dict]:
    """The first part: what the file is and where its results go."""
    comment = (
        f"{name}: {about}, made by `attnseg init`.\n"
        f"#   snakemake --cores all --resources gpu=1 --configfile {output}\n"
        "# All keys: config/README.md; `attnseg config FILE` prints what holds in the end."
    )
    return comment, {"paths": {key: f"{key}/{name}" for key in ("work", "results", "resources")}}


def photo_parts(name: str, entry: dict, output: Path, given: bool) -> Parts:
    """Masks of photos, a picture of some, and a segmentor trained on them; or, where masks are `given`,
    the segmentor alone."""
    photos, truth = entry["splits"]["train"]["images"], entry["splits"]["train"]["truth"]
    shown = {"dataset": name, "split": "train", "masks": "base/crf"}
    made = [f"<work>/masks/{name}/train/base/crf/manifest.json", f"{name}_masks"]
    weights = [f"<work>/segmentors/{name}/weights.safetensors"]
    measured = [
        f"<work>/evaluation/masks/{name}/train/base/crf/metrics.json",
        f"<work>/evaluation/segmentors/{name}/train/metrics.json",
    ]
    train = shown | {"masks": "truth"} if given else shown
    segmentor = {
        "extends": "deeplabv2_voc",
        "iterations": max(1000, min(20000, 4 * photos)),
        "train": train,
    }
    targets = weights if given else [*made, *weights, *(measured if truth else [])]
    parts = [
        head(name, f"{photos} photos", output),
        (
            "the masks (<id>.png beside the manifest), a picture of some, a segmentor",
            {"targets": targets},
        ),
        (
            "the number of photos must be right: jobs are planned before they are read",
            {"datasets": {name: entry}},
        ),
        (PRESENT, {"refinements": {"crf": {"presence": "chosen"}}}),
        ("", {"pictures": {f"{name}_masks": dict(shown)}}),
        ("VOC's recipe, shorter", {"segmentors": {name: segmentor}}),
    ]
    unused = {"pictures"} if given else set()
    if entry["labels"] not in UNLABELLED:
        unused.add("refinements")
    return [part for part in parts if not part[1].keys() & unused]


def generated_parts(name: str, entry: dict, images: int, output: Path) -> Parts:
    """Generated images, their masks, and a segmentor trained on them."""
    segmentor = {
        "extends": "real_voc",
        "iterations": max(1000, min(40000, 4 * images)),
        "train": {
            "dataset": name,
            "split": None,
            "synthesis": name,
            "masks": "crf",
            "images": images,
        },
    }
    return [
        head(name, f"{images} generated images", output),
        ("", {"targets": [f"<work>/segmentors/{name}/weights.safetensors"]}),
        ("", {"datasets": {name: entry}}),
        (
            f"images in work/{name}/generated, masks in work/{name}/masks/generated",
            {"synthesis": {name: {"dataset": name, "source": name, "count": images}}},
        ),
        ("attn2mask's recipe for VOC, shorter", {"segmentors": {name: segmentor}}),
    ]


def written(parts: Parts) -> str:
    """The text of the file."""
    texts = []
    for comment, content in parts:
        part = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)
        texts.append((f"# {comment}\n" if comment else "") + part)
    return "\n".join(texts)
