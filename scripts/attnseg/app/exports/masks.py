"""A folder of masks as photos with instances, whoever wrote it."""

import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools.mask import frPyObjects
from scipy import ndimage

from attnseg.datasets import Dataset
from attnseg.datasets.images import ORIENTATION, read_image, read_mask, size_in_header
from attnseg.errors import UserError, readable
from attnseg.io.files import parsed

SUFFIXES = {"JPEG": ".jpg", "PNG": ".png"}


@dataclass(frozen=True)
class Instance:
    """Pixels of one class, `inside` a box whose first pixel is at x, y."""

    number: int  # of the class, in masks
    name: str
    x: int
    y: int
    inside: np.ndarray  # [h, w] bool

    @property
    def box(self) -> list[int]:
        """x, y, width, height."""
        return [self.x, self.y, self.inside.shape[1], self.inside.shape[0]]

    @property
    def area(self) -> int:
        return int(self.inside.sum())

    def runs(self, size: tuple[int, int], down: bool) -> list[int]:
        """Lengths of the runs outside and inside, in turn, down the columns of a photo of `size` or
        along its rows."""
        lines = self.inside.T if down else self.inside
        first, offset, length = (self.x, self.y, size[0]) if down else (self.y, self.x, size[1])
        line, place = np.nonzero(np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8)))
        borders = (first + line) * length + offset + place
        through = np.flatnonzero(
            np.diff(borders) == 0
        )  # from one line's end to the next one's start
        borders = np.delete(borders, np.r_[through, through + 1])
        lengths = np.diff(np.r_[0, borders, size[0] * size[1]]).tolist()
        return lengths if lengths[-1] else lengths[:-1]

    def rle(self, size: tuple[int, int]) -> dict:
        """COCO's run lengths, exact: {"size": [H, W], "counts": text}."""
        plain = {"size": list(size), "counts": self.runs(size, down=True)}
        return plain | {"counts": frPyObjects(plain, *size)["counts"].decode()}


@dataclass(frozen=True)
class Photo:
    """A photo and its mask; `upright` if it is not stored turned."""

    id: str
    path: Path
    labels: np.ndarray  # [H, W] uint8: class numbers
    instances: list[Instance]
    upright: bool
    turn: bool  # whether the mask is of the photo turned upright

    @property
    def size(self) -> tuple[int, int]:
        """(H, W)."""
        height, width = self.labels.shape
        return height, width

    def file(self, formats: tuple[str, ...]) -> tuple[bytes, str]:
        """(content, suffix) of a photo file that any reader shows as the mask is: the photo's own
        where it is upright and of one of `formats`, else a JPEG of its pixels."""
        with Image.open(self.path) as image:
            kind = image.format
        if self.upright and kind in formats:
            return self.path.read_bytes(), SUFFIXES[kind]
        buffer = io.BytesIO()
        Image.fromarray(read_image(self.path, self.turn)).save(buffer, "JPEG", quality=95)
        return buffer.getvalue(), ".jpg"


@dataclass(frozen=True)
class Masks:
    """What is exported; iterating yields a `Photo` at a time.

    classes: names by numbers in the masks; other numbers are nothing. places: (photo, mask) by ids.
    turn: whether photos are turned upright. about: what the exported file is to say of itself.
    attention: the folder of masks whose kept self-attention tells instances; None: they are connected
    parts.
    """

    classes: Mapping[int, str]
    places: Mapping[str, tuple[Path, Path]]
    ignored: int | None
    turn: bool
    smallest: int = 1
    about: Mapping[str, str] = field(default_factory=dict)
    attention: Path | None = None

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Photo]:
        known = np.zeros(256, bool)
        known[[0, *self.classes, *([] if self.ignored is None else [self.ignored])]] = True
        for image_id, (path, mask) in self.places.items():
            size, upright = size_of(path, self.turn)
            labels = read_mask(mask, size)
            wrong = np.flatnonzero(np.bincount(labels.ravel(), minlength=256) * ~known)
            if len(wrong):
                raise UserError(f"{mask}: number {wrong[0]} is no class; check --dataset")
            parts_of = connected
            if self.attention is not None and np.isin(labels, list(self.classes)).any():
                from attnseg.app import kept_attention  # imports torch

                parts_of = kept_attention.read(self.attention, image_id).objects
            found = list(instances(labels, self.classes, self.smallest, parts_of))
            yield Photo(image_id, path, labels, found, upright, self.turn)


def connected(mask: np.ndarray) -> np.ndarray:
    """The connected parts of a mask [H, W] bool: [H, W] int32, 0 outside, 1, 2, ... Pixels that touch at
    a corner are connected."""
    return cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[1]


def instances(
    labels: np.ndarray,
    classes: Mapping[int, str],
    smallest: int = 1,
    parts_of: Callable[[np.ndarray], np.ndarray] = connected,
) -> Iterator[Instance]:
    """The parts of each class that have at least `smallest` pixels.

    labels: [H, W] uint8. parts_of: numbers the parts of a mask, as `connected`.
    """
    for number in np.unique(labels).tolist():
        if number not in classes:
            continue
        parts = parts_of(labels == number)
        for part, place in enumerate(ndimage.find_objects(parts), 1):
            if place is not None and np.count_nonzero(inside := parts[place] == part) >= smallest:
                y, x = (side.start for side in place)
                yield Instance(number, classes[number], x, y, inside)


def size_of(photo: Path, turn: bool) -> tuple[tuple[int, int], bool]:
    """((H, W) of a photo as its mask is, whether it is stored upright), from its header."""
    try:
        with Image.open(photo) as image:
            size, orientation = size_in_header(image, turn), image.getexif().get(ORIENTATION, 1)
    except (OSError, Image.DecompressionBombError):
        raise UserError(
            f"{photo}: no such photo, or damaged; run this where the masks were made, or put it back"
        ) from None
    return size, orientation not in range(2, 9)


def read_folder(
    folder: Path, dataset: Dataset | None = None, root: Path | None = None, split: str | None = None
) -> Masks:
    """The masks of `attnseg segment` or `attnseg predict`; with the data set's, those of the workflow.

    Raises:
        UserError: if it is neither's, or masks or photos are missing.
    """
    try:
        record = parsed((folder / "manifest.json").read_text())
        kept = {"photos", "items"} & record.keys()
    except (OSError, ValueError, AttributeError):
        kept = set()
    if not kept:
        raise UserError(
            f"{folder}: no manifest.json of finished masks; name a folder of `attnseg segment`, "
            "`attnseg predict` or the workflow"
        )
    if "photos" in kept:
        if dataset is not None:
            raise UserError(f"{folder}: names its photos itself; leave out --dataset and --root")
        with readable(folder / "manifest.json", "make the masks again"):
            photos = {i: Path(entry["photo"]) for i, entry in record["photos"].items()}
            classes = {n: str(name) for n, name in enumerate(record["classes"], 1)}
            ignored, turn = None, record["made_with"].get("exif") != "ignore"
    else:
        if dataset is None or root is None:
            raise UserError(f"{folder}: masks of the workflow; add --dataset and --root")
        with readable(folder / "manifest.json", "make the masks again"):
            ids = [item["id"] for item in record["items"]]
        photos = {image_id: dataset.image_path(root, image_id, split) for image_id in ids}
        names = enumerate(dataset.class_names)
        classes = {n: name for n, name in names if n or not dataset.background}
        ignored, turn = dataset.ignored, dataset.exif == "turn"
    places = {i: (photo, folder / f"{i}.png") for i, photo in sorted(photos.items())}
    missing = [mask for _, mask in places.values() if not mask.is_file()]
    if missing or not places:
        raise UserError(f"{missing[0] if missing else folder}: no mask there; make the masks again")
    return Masks(classes, places, ignored, turn)


def relative(photo: Photo, folder: Path) -> str:
    """The photo's path as seen from a folder, with slashes."""
    return Path(os.path.relpath(photo.path, folder)).as_posix()
