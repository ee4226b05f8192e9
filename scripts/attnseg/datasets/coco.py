"""COCO on disk, and semantic masks from its instances.

    <root>/annotations/instances_<split>.json, captions_<split>.json
    <root>/<split>/<id>.jpg
    <root>/masks/<id>.png        made by scripts/build_coco_masks.py: 0 background, 1 to 80
    <root>/masks/<split>.json    the ids and classes of a split, made with them

A split is train2014, or train where there is only one year's. An id is the photo's file name
without its ending (COCO_train2014_000000000009).

Class numbers follow the category ids of the annotation file in rising order, which leaves no gaps:
1 is COCO's 1 (person), 80 its 90 (toothbrush). Where instances overlap the smaller is on top;
crowds lie below all others and count as their class. No pixel is ignored.
"""

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from attnseg.datasets.images import read_image, read_mask, write_mask
from attnseg.datasets.label_list import listed_labels
from attnseg.datasets.voc import PALETTE
from attnseg.errors import UserError

__all__ = [
    "CLASSES", "PALETTE", "image_path", "labels", "mask_path", "rasterise",
    "read_image", "read_mask", "read_split", "write_mask",
]  # fmt: skip

IGNORED = 255  # in masks that train; the true ones ignore nothing
# In the order of COCO's category ids.
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip


def full_split(root: Path, split: str) -> str:
    """``train2014`` for train: the name with its year, of the one year that is there."""
    folder = Path(root) / "annotations"
    prefix = "instances_"
    if (folder / f"{prefix}{split}.json").is_file():
        return split
    found = sorted(
        path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}{split}[0-9]*.json")
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{folder}: split {split!r} is {' or '.join(found)}: name the one you mean")
    raise UserError(
        f"{folder}/{prefix}{split}.json: no annotations of split {split!r}: check datasets.coco.root"
    )


def read_annotations(root: Path, split: str) -> dict:
    """The content of a split's annotation file."""
    path = Path(root) / "annotations" / f"instances_{full_split(root, split)}.json"
    try:
        content = json.loads(path.read_bytes())
        content["images"], content["annotations"]  # noqa: B018
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: unpack COCO's annotations again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no COCO annotation file ({error}): download it again") from None
    return content


def class_numbers(categories: Sequence[dict]) -> dict[int, int]:
    """COCO's category id -> class number, 1 to 80."""
    ordered = sorted(categories, key=lambda category: category["id"])
    names = tuple(category["name"] for category in ordered)
    if names != CLASSES:
        raise UserError(f"COCO's 80 categories expected, the annotations have {len(names)} others")
    return {category["id"]: number for number, category in enumerate(ordered, 1)}


def rasterise(annotations: Sequence[dict], height: int, width: int, numbers: dict) -> np.ndarray:
    """[H, W] uint8 class numbers of one image's instances."""
    from pycocotools import mask as coco_mask

    drawn = []
    for order, annotation in enumerate(annotations):
        shape = annotation["segmentation"]
        if isinstance(shape, list):  # polygons of one instance
            code = coco_mask.merge(coco_mask.frPyObjects(shape, height, width)) if shape else None
        elif isinstance(shape["counts"], list):
            code = coco_mask.frPyObjects(shape, height, width)
        else:
            code = shape
        if code is None:
            continue
        crowd = bool(annotation.get("iscrowd"))
        area = int(coco_mask.area(code))
        drawn.append(((not crowd, -area, order), code, numbers[annotation["category_id"]]))
    mask = np.zeros((height, width), np.uint8)
    for _, code, number in sorted(drawn, key=lambda item: item[0]):
        mask[coco_mask.decode(code).astype(bool)] = number
    return mask


def index(content: dict) -> list[dict]:
    """[{id, classes}] of the images with at least one annotation, by id."""
    numbers = class_numbers(content["categories"])
    present: dict[int, set[int]] = {}
    for annotation in content["annotations"]:
        present.setdefault(annotation["image_id"], set()).add(numbers[annotation["category_id"]])
    items = [
        {
            "id": Path(image["file_name"]).stem,
            "classes": [CLASSES[number - 1] for number in sorted(present[image["id"]])],
        }
        for image in content["images"]
        if image["id"] in present
    ]
    return sorted(items, key=lambda item: item["id"])


def image_path(root: Path, image_id: str) -> Path:
    # 2014's names hold the split, 2017's do not
    parts = image_id.split("_")
    if len(parts) == 3:
        return Path(root) / parts[1] / f"{image_id}.jpg"
    for folder in ("train2017", "val2017"):
        path = Path(root) / folder / f"{image_id}.jpg"
        if path.is_file():
            return path
    return Path(root) / "train2017" / f"{image_id}.jpg"


def mask_path(root: Path, image_id: str) -> Path:
    return Path(root) / "masks" / f"{image_id}.png"


def index_path(root: Path, split: str) -> Path:
    """The ids and classes of a split, made with its masks."""
    return Path(root) / "masks" / f"{full_split(root, split)}.json"


@lru_cache(maxsize=4)
def _split(root: Path, split: str) -> dict[str, list[str]]:
    """id -> classes, in the order of the ids."""
    made = index_path(root, split)
    # the annotations of 2014's train are 450 MB, and every shard's job would read them
    items = json.loads(made.read_text())["items"] if made.is_file() else None
    items = index(read_annotations(root, split)) if items is None else items
    return {item["id"]: item["classes"] for item in items}


def read_split(root: Path, split: str) -> list[str]:
    """The ids of a split's images that have at least one annotation, sorted."""
    return list(_split(Path(root), full_split(root, split)))


def labels(root: Path, image_id: str, source: str = "instances") -> list[str]:
    """The classes present, in COCO's order.

    `source`: "instances", the annotated categories, crowds included; "mask", the classes of the
    semantic mask (the official code); "csv", those of labels.csv.
    """
    if source == "csv":
        return listed_labels(root, image_id, CLASSES)
    if source == "mask":
        numbers = np.unique(read_mask(mask_path(root, image_id)))
        return [CLASSES[n - 1] for n in numbers if 0 < n <= len(CLASSES)]
    if source != "instances":
        raise UserError(
            f"COCO has no labels of {source!r}: set datasets.coco.labels: instances, mask or csv"
        )
    parts = image_id.split("_")
    splits = [parts[1]] if len(parts) == 3 else ["train2017", "val2017"]
    for split in splits:
        if (Path(root) / "annotations" / f"instances_{split}.json").is_file():
            classes = _split(Path(root), split).get(image_id)
            if classes is not None:
                return classes
    raise UserError(f"{root}: image {image_id!r} has no annotation in {' or '.join(splits)}")


def build_masks(root: Path, split: str, progress=iter) -> dict:
    """Write the masks of a split, then its index; how many images and pixels.

    Masks that are there are kept: each is complete or absent.
    """
    from attnseg.files import write_json

    split = full_split(root, split)
    content = read_annotations(root, split)
    numbers = class_numbers(content["categories"])
    items = index(content)
    of_image: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    images = [image for image in content["images"] if image["id"] in of_image]
    made = 0
    for image in progress(images):
        path = mask_path(root, Path(image["file_name"]).stem)
        if not path.exists():
            mask = rasterise(of_image[image["id"]], image["height"], image["width"], numbers)
            write_mask(path, mask, PALETTE)
            made += 1
    write_json(index_path(root, split), {"split": split, "classes": CLASSES, "items": items})
    _split.cache_clear()
    return {"split": split, "images": len(items), "made": made}
