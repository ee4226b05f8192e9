"""ImageNet-S on disk, as foreground against background (attn2mask, Evaluation protocol).

    <root>/ImageNetS_categories_im<N>.txt            wnids; class number i is line i, from 1
    <root>/LOC_synset_mapping.txt                    "<wnid> <name>, <synonym>, ..." (ImageNet's)
    <root>/<split>/<wnid>/<name>.JPEG
    <root>/<split>-segmentation/<wnid>/<name>.png    RGB, class R + 256 G; 0 other, 1000 ignored

The mask of an image's own class is the foreground, 1; everything else is 0. An image id is
<wnid>/<name>. Splits with masks: train-semi and validation. Mini ImageNet-S has the same layout.
"""

import functools
from pathlib import Path

import numpy as np
from PIL import Image

from attnseg.datasets.images import read_image, read_mask, write_mask
from attnseg.datasets.voc import PALETTE
from attnseg.errors import UserError

__all__ = [
    "CLASSES", "IGNORED", "PALETTE", "image_path", "mask_path", "own_class_mask", "read_image",
    "read_mask", "read_split", "read_truth", "synonyms", "wnids", "write_mask",
]  # fmt: skip

CLASSES = ("foreground",)
IGNORED = 255
IGNORED_HERE = 1000  # in the official masks
SPLITS = ("train-semi", "validation")


@functools.cache
def wnids(root: Path) -> tuple[str, ...]:
    """The categories in the order of the official list."""
    lists = sorted(Path(root).glob("ImageNetS_categories_im*.txt"))
    if len(lists) != 1:
        raise UserError(
            f"{root}: {len(lists)} lists named ImageNetS_categories_im<N>.txt: keep exactly the one "
            "of the version that lies there"
        )
    return tuple(lists[0].read_text().split())


def synonyms(root: Path) -> dict[str, tuple[str, ...]]:
    """wnid -> its names, for the categories of the list."""
    path = Path(root) / "LOC_synset_mapping.txt"
    if not path.is_file():
        raise UserError(f"{path}: no such file: copy it from the ImageNet archive")
    names = {}
    for line in path.read_text().splitlines():
        wnid, _, words = line.partition(" ")
        names[wnid] = tuple(word.strip() for word in words.split(",") if word.strip())
    missing = [wnid for wnid in wnids(Path(root)) if not names.get(wnid)]
    if missing:
        raise UserError(
            f"{path}: no name for {', '.join(missing[:5])}: copy it from the archive again"
        )
    return {wnid: names[wnid] for wnid in wnids(Path(root))}


def read_split(root: Path, split: str) -> list[str]:
    """The ids of a split's masks, sorted."""
    folder = Path(root) / f"{split}-segmentation"
    ids = sorted(f"{path.parent.name}/{path.stem}" for path in folder.glob("*/*.png"))
    if not ids:
        raise UserError(f"{folder}: no masks of split {split!r}: check datasets.imagenet_s.root")
    return ids


def _split_of(root: Path, image_id: str) -> str:
    for split in SPLITS:
        if (Path(root) / f"{split}-segmentation" / f"{image_id}.png").is_file():
            return split
    return SPLITS[-1]  # so that reading it names the file that is missing


def image_path(root: Path, image_id: str) -> Path:
    return Path(root) / _split_of(root, image_id) / f"{image_id}.JPEG"


def mask_path(root: Path, image_id: str) -> Path:
    """The official mask; read it with `read_truth`."""
    return Path(root) / f"{_split_of(root, image_id)}-segmentation" / f"{image_id}.png"


def own_class_mask(numbers: np.ndarray, own: int) -> np.ndarray:
    """Class numbers [H, W] -> [H, W] uint8: 1 the own class, 0 any other, 255 ignored."""
    mask = (numbers == own).astype(np.uint8)
    mask[numbers == IGNORED_HERE] = IGNORED
    return mask


def read_truth(root: Path, image_id: str) -> np.ndarray:
    """Foreground and background of an image: [H, W] uint8."""
    path = mask_path(root, image_id)
    numbers = read_image(path).astype(np.int32) @ np.array([1, 256, 0])
    wnid = image_id.split("/")[0]
    if wnid not in wnids(Path(root)):
        raise UserError(
            f"{path}: {wnid} is not in the list of categories: use the list of this version"
        )
    return own_class_mask(numbers, 1 + wnids(Path(root)).index(wnid))


def write_official_mask(path: Path, numbers: np.ndarray) -> None:
    """Class numbers [H, W] as an official mask."""
    numbers = numbers.astype(np.int64)
    pixels = np.stack([numbers % 256, numbers // 256, np.zeros_like(numbers)], -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
