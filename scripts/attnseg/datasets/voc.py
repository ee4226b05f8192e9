"""PASCAL VOC 2012 on disk, SBD's additional masks included.

    <root>/JPEGImages/<id>.jpg
    <root>/Annotations/<id>.xml                  image-level labels
    <root>/SegmentationClassAug/<id>.png         0 background, 1 to 20, 255 ignored
    <root>/ImageSets/Segmentation/<split>.txt    ids, one a line

`root` is the folder VOCdevkit/VOC2012. Mini VOC has the same layout.
"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from attnseg.datasets.images import read_image, read_mask, write_mask
from attnseg.datasets.label_list import listed_labels
from attnseg.errors import UserError
from attnseg.files import safe_name

__all__ = [
    "CLASSES", "PALETTE", "image_path", "labels", "mask_path", "read_image", "read_mask",
    "read_split", "write_mask",
]  # fmt: skip

IGNORED = 255
CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa",
    "train", "tvmonitor",
)  # fmt: skip


def _palette() -> np.ndarray:
    """VOC's colours: the bits of a class number, spread over the channels from the top."""
    colours = np.zeros((256, 3), np.uint8)
    for number in range(256):
        for bit in range(8):
            for channel in range(3):
                colours[number, channel] |= ((number >> (3 * bit + channel)) & 1) << (7 - bit)
    return colours


PALETTE = _palette()


def image_path(root: Path, image_id: str) -> Path:
    return Path(root) / "JPEGImages" / f"{image_id}.jpg"


def mask_path(root: Path, image_id: str) -> Path:
    return Path(root) / "SegmentationClassAug" / f"{image_id}.png"


def split_path(root: Path, split: str) -> Path:
    return Path(root) / "ImageSets" / "Segmentation" / f"{split}.txt"


def read_split(root: Path, split: str) -> list[str]:
    """The ids of a split, in the file's order."""
    path = split_path(root, split)
    if not path.is_file():
        raise UserError(f"{path}: no list of split {split!r}: check datasets.voc.root")
    ids = path.read_text().split()
    if not ids:
        raise UserError(f"{path}: the list is empty: restore it from the data set's archive")
    return [safe_name(image_id, path) for image_id in ids]


def labels(root: Path, image_id: str, source: str = "xml") -> list[str]:
    """The classes present, in VOC's order; empty where there is none.

    `source`: "xml", the annotated objects, difficult ones included; "mask", the classes of the
    ground-truth mask (the official code); "csv", those of labels.csv.
    """
    if source == "csv":
        return listed_labels(root, image_id, CLASSES)
    if source == "mask":
        numbers = np.unique(read_mask(mask_path(root, image_id)))
        present = {int(n) for n in numbers if n not in (0, IGNORED)}
        if present and max(present) > len(CLASSES):
            raise UserError(
                f"{mask_path(root, image_id)}: class number {max(present)}: VOC has 1 to 20"
            )
        return [CLASSES[n - 1] for n in sorted(present)]
    if source != "xml":
        raise UserError(
            f"VOC has no labels of {source!r}: set datasets.voc.labels: xml, mask or csv"
        )
    path = Path(root) / "Annotations" / f"{image_id}.xml"
    try:
        names = [element.text.strip() for element in ElementTree.parse(path).findall("object/name")]
    except FileNotFoundError:
        raise UserError(
            f"{path}: no annotation of this image; set datasets.voc.labels: mask"
        ) from None
    except (ElementTree.ParseError, AttributeError) as problem:
        raise UserError(f"{path}: not a readable VOC annotation ({problem})") from None
    for name in names:
        if name not in CLASSES:
            raise UserError(f"{path}: unknown class {name!r}: VOC's are {', '.join(CLASSES)}")
    return sorted(set(names), key=CLASSES.index)
