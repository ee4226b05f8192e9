"""Cityscapes on disk, with the 19 classes of its benchmark.

    <root>/leftImg8bit/<split>/<city>/<id>_leftImg8bit.png
    <root>/gtFine/<split>/<city>/<id>_gtFine_labelIds.png     official label ids, 0 to 33

An image id begins with its city: aachen_000000_000019. Mini Cityscapes has the same layout.
"""

from pathlib import Path

import numpy as np

from attnseg.datasets.images import read_image, read_mask, write_mask
from attnseg.errors import UserError

__all__ = [
    "CLASSES", "IGNORED", "LABELS", "PALETTE", "TRAIN_IDS", "image_path", "images_of", "mask_path",
    "read_image", "read_mask", "read_split", "read_truth", "train_ids", "write_mask",
]  # fmt: skip

IGNORED = 255
CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
LABELS = CLASSES  # a mask's numbers: there is no background class
# official label id of each class, in the order of the train ids
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TRAIN_IDS = np.full(256, IGNORED, np.uint8)
TRAIN_IDS[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))

PALETTE = np.zeros((256, 3), np.uint8)
PALETTE[: len(CLASSES)] = [
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
    (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
]  # fmt: skip


def read_split(root: Path, split: str) -> list[str]:
    """The ids of a split, sorted."""
    ids = [path.name.removesuffix("_leftImg8bit.png") for path in images_of(root, split)]
    if len(set(ids)) != len(ids):
        raise UserError(
            f"{root}: an image of {split} lies in two cities: restore the archive's layout"
        )
    return ids


def images_of(root: Path, split: str) -> list[Path]:
    """The photos of a split, in the order of their ids."""
    folder = Path(root) / "leftImg8bit" / split
    paths = sorted(folder.glob("*/*_leftImg8bit.png"), key=lambda path: path.name)
    if not paths:
        raise UserError(
            f"{folder}: no *_leftImg8bit.png of split {split!r}: check datasets.cityscapes.root"
        )
    return paths


def _path(root: Path, kind: str, image_id: str, ending: str) -> Path:
    """A file of an image, in whichever split holds it."""
    city = image_id.split("_")[0]
    name = f"{city}/{image_id}_{ending}.png"
    found = sorted((Path(root) / kind).glob(f"*/{name}"))
    return found[0] if found else Path(root) / kind / "val" / name


def image_path(root: Path, image_id: str) -> Path:
    return _path(root, "leftImg8bit", image_id, "leftImg8bit")


def mask_path(root: Path, image_id: str) -> Path:
    """The official label ids; read them with `read_truth`."""
    return _path(root, "gtFine", image_id, "gtFine_labelIds")


def train_ids(label_ids: np.ndarray) -> np.ndarray:
    """Official label ids -> train ids 0 to 18, all else 255; [H, W] uint8."""
    return TRAIN_IDS[label_ids]


def read_truth(root: Path, image_id: str) -> np.ndarray:
    """Train ids of an image: [H, W] uint8."""
    return train_ids(read_mask(mask_path(root, image_id)))
