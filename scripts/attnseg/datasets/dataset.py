"""Data sets: their classes, the words for them, and the layout of their files.

A data set is plain data that can be read without numpy, because rules use it while the Snakefile is
parsed. Methods that read images import numpy and PIL when called. This package's data sets are the
`DATASET` of the files beside this one; `attnseg.datasets.loading` makes others from the configuration.

Path patterns are relative to the data set's root. `{split}` and `{id}` are placeholders, `*` matches
any folder, and a final `.*` any image suffix; ids may contain folders.
"""

import glob
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from attnseg.errors import UserError, readable
from attnseg.io.files import safe_name

if TYPE_CHECKING:
    import numpy as np

SHIPPED = ("voc", "coco", "imagenet_s", "cityscapes", "mug19")  # each a file of this folder
DEFAULT = SHIPPED[0]
# Text2Mask, Section 3.3
BACKGROUND_WORDS = (
    "tree", "river", "sea", "lake", "water", "railway", "railroad", "track", "stone", "rocks",
)  # fmt: skip
USUAL_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".JPEG")


def bit_colours() -> tuple[tuple[int, ...], ...]:
    """VOC's 256 colours: the bits of a number, spread over the channels from the top."""
    return tuple(
        tuple(
            sum(((number >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(3))
            for channel in range(3)
        )
        for number in range(256)
    )


@dataclass(frozen=True)
class Dataset:
    """A data set; `name` is its key in the configuration."""

    name: str
    classes: tuple[str, ...] = ()
    background: bool = True  # if true, 0 is the background in masks, and classes start at 1, else 0
    ignored: int = 255  # in masks for training and evaluation
    palette: tuple[tuple[int, int, int], ...] = ()  # colours of class numbers; () for VOC's
    layout: str = ""  # the data set of this package whose layout it has

    # file layout
    photos: str | None = "images/{split}/{id}.*"
    masks: str | None = "masks/{split}/{id}.png"
    mask_values: tuple[int, ...] = ()  # of the classes in ground-truth files, if not their numbers
    lists: str | None = None  # ids of a split, one per line; None: the ids of its photos
    # VOC's XML files, for the label source "xml"; a COCO file for "instances"
    annotations: str | None = None
    # the default first
    label_sources: tuple[str, ...] = ("csv", "mask", "folders", "xml", "instances", "known", "all")
    exif: str = "ignore"  # or "turn" photos upright by their EXIF orientation

    # queries of real photos (Text2Mask)
    synonyms: Mapping[str, str] = field(default_factory=dict)
    background_words: tuple[str, ...] | None = None  # None: Text2Mask's if there is a background
    official_background_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    official_box_threshold: float = 0.2

    # prompts for image generation (attn2mask): captions that name a class, or a template
    captions: str | None = None  # file of COCO captions, relative to the root
    caption_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    literal_caption_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    distractors: tuple[str, ...] = ()  # phrases that contain a class's word but do not mean it
    prompt: str = "a photo of {}"
    adapted_prompt: str | None = None  # with a LoRA's domain token
    prompt_classes: int = 1  # maximum per prompt
    names_below_root: bool = False  # if true, class names for prompts are read from the root

    def __post_init__(self) -> None:
        if self.background_words is None:
            words = BACKGROUND_WORDS if self.background else ()
            object.__setattr__(self, "background_words", words)

    # -- class numbers

    @property
    def class_names(self) -> list[str]:
        """Names of the class numbers in masks, from 0 on."""
        return ["background", *self.classes] if self.background else list(self.classes)

    @property
    def unclassed(self) -> int:
        """The number in masks of pixels without a class."""
        return 0 if self.background else self.ignored

    def number(self, name: str) -> int:
        """A class's number in masks."""
        if name not in self.classes:
            raise UserError(f"class {name!r} is not a class of {self.name}: check --dataset")
        return self.background + self.classes.index(name)

    def identity(self) -> dict:
        """Settings that affect masks; {} if the classes are those of a data set of this package."""
        kept = self.layout and self.class_names == shipped(self.layout).class_names
        return {} if kept else {"classes": self.class_names}

    def vocabulary(self) -> str | dict:
        """Settings that affect queries; a name if they are those of a data set of this package."""
        if self.layout:
            other = shipped(self.layout)
            if (self.synonyms, self.background_words) == (other.synonyms, other.background_words):
                return self.layout
        return {
            "synonyms": dict(self.synonyms),
            "background_words": list(self.background_words or ()),
            "official": {k: list(v) for k, v in self.official_background_words.items()},
        }

    # -- files

    def photo_folder(self, split: str) -> str | None:
        """Folder that contains the photos of a split, relative to the root."""
        return self.photos and _folder(self.photos).format(split=split)

    def training_masks(self, split: str) -> str | None:
        """Folder, relative to the root, of ground-truth masks that need no conversion for training."""
        if self.mask_values or not self.masks or _folder(self.masks) + "/{id}.png" != self.masks:
            return None
        return _folder(self.masks).format(split=split)

    def split_on_disk(self, root: Path, split: str) -> str:
        """What the photos of a split are called in the files that are there."""
        return split

    def list_path(self, root: Path, split: str) -> Path | None:
        """Path of the list of a split."""
        return Path(root) / self.lists.format(split=split) if self.lists else None

    def read_split(self, root: Path, split: str) -> list[str]:
        """Ids of a split, in the order of its list, or sorted if there is no list."""
        path = self.list_path(root, split)
        if path is None:
            return self.found(root, self.photos, split)
        if not path.is_file():
            raise UserError(f"{path}: no list of split {split!r}: check datasets.{self.name}.root")
        restore = "restore it from the data set's archive"
        with readable(path, restore):
            ids = [line.strip() for line in path.read_text().splitlines() if line.strip()]
        if not ids:
            raise UserError(f"{path}: the list is empty: {restore}")
        for image_id in ids:
            for part in image_id.split("/"):
                safe_name(part, path)
        if twice := next((i for i, count in Counter(ids).items() if count > 1), None):
            raise UserError(f"{path}: {twice} is listed twice: {restore}")
        return ids

    def found(self, root: Path, pattern: str | None, split: str) -> list[str]:
        """The ids of the files of a pattern, sorted."""
        if pattern is None:
            raise UserError(f"datasets.{self.name}: no pattern of its files; set photos and masks")
        pattern = pattern.format(split=split, id="{id}")
        parts = re.split(r"(\.\*$|\*|\{id\})", pattern)
        spelled = {".*": r"\.\w+", "*": "[^/]*", "{id}": "(.+)"}
        form = re.compile("".join(spelled.get(part, re.escape(part)) for part in parts), re.DOTALL)
        folder = Path(root) / _folder(pattern)
        ids = []
        for where, folders, names in os.walk(folder, followlinks=True):
            folders[:] = [name for name in folders if not name.startswith(".")]
            for name in names:
                path = Path(where, name)
                match = form.fullmatch(path.relative_to(root).as_posix())
                if match and not name.startswith(".") and _is_picture(path):
                    ids.append(match[1])
        if not ids:
            raise UserError(
                f"{folder}: no files {pattern} of split {split!r}: check datasets.{self.name}.root"
            )
        ids.sort()
        twice = next((a for a, b in zip(ids, ids[1:], strict=False) if a == b), None)
        if twice:
            raise UserError(f"{folder}: two files of {twice!r}: give each file its own name")
        return ids

    def image_path(self, root: Path, image_id: str, split: str | None = None) -> Path:
        """Path of a photo; without a `split` all splits are searched."""
        return self._place(root, self.photos, image_id, split)

    def mask_path(self, root: Path, image_id: str, split: str | None = None) -> Path:
        """Path of a ground-truth mask; see `read_truth`."""
        return self._place(root, self.masks, image_id, split)

    def annotation_path(self, root: Path, image_id: str, split: str | None = None) -> Path:
        """Path of a photo's XML file."""
        if not self.annotations or "{id}" not in self.annotations:
            raise UserError(
                f"datasets.{self.name}.annotations: not set; give the pattern of the XML"
            )
        return self._place(root, self.annotations, image_id, split)

    def coco_path(self, root: Path) -> Path:
        """Path of the COCO file that labels are from."""
        if not self.annotations or "{" in self.annotations:
            raise UserError(f"datasets.{self.name}.annotations: not set; name the COCO file")
        return Path(root) / self.annotations

    def _place(self, root: Path, pattern: str | None, image_id: str, split: str | None) -> Path:
        if pattern is None:
            raise UserError(f"datasets.{self.name}: no path patterns; set `photos` and `masks`")
        path = Path(root, pattern.format(split=split or "*", id=image_id))
        if "*" not in pattern and (split or "{split}" not in pattern):
            return path
        if pattern.endswith(".*"):  # cheaper than listing a large folder
            for suffix in USUAL_SUFFIXES:
                if path.with_name(path.name[:-2] + suffix).is_file():
                    return path.with_name(path.name[:-2] + suffix)
        pattern = pattern.format(split=split or "*", id=glob.escape(image_id))
        places = [place for place in sorted(Path(root).glob(pattern)) if _is_picture(place)]
        if len(places) > 1:
            raise UserError(f"{places[0]} and {places[1]}: two files of {image_id!r}: keep one")
        return places[0] if places else path

    def files(
        self, root: Path, split: str, masks: bool = True
    ) -> tuple[list[str], list[Path], list[Path]]:
        """Ids of a split, paths of its photos and, if `masks`, of its ground-truth masks."""
        ids = self.read_split(root, split)
        return (
            ids,
            [self.image_path(root, image_id, split) for image_id in ids],
            [self.mask_path(root, image_id, split) for image_id in ids] if masks else [],
        )

    def build(self, root: Path, splits: Mapping[str, int], processes: int) -> None:
        """Build the files that config/datasets.yaml lists as built; `splits`: name -> images."""
        raise UserError(f"datasets.{self.name}: nothing to build")

    # -- contents

    def read_photo(self, root: Path, image_id: str, split: str | None = None) -> "np.ndarray":
        """Read a photo: [H, W, 3] uint8 RGB, turned upright if `exif` says so."""
        from attnseg.datasets.images import read_image

        return read_image(self.image_path(root, image_id, split), turn=self.exif == "turn")

    def labels(
        self, root: Path, image_id: str, source: str | None = None, split: str | None = None
    ) -> list[str]:
        """Classes present in a photo, in the order of `classes`; may be empty.

        `source`: one of `label_sources`, by default the first. "csv": labels.csv; "mask": the
        ground-truth mask, as in the official code; "folders": the name of the photo's folder; "xml":
        the annotated objects, including difficult ones; "instances": the objects in a COCO file,
        crowds left out; "all": every class; "known": what files say of some of the photos, every class
        in the others. Each is a method `labels_from_<source>`.
        """
        source = source or next(iter(self.label_sources), None)
        if source not in self.label_sources:
            known = " or ".join(self.label_sources) or "it has none"
            raise UserError(
                f"{self.name} has no labels of {source!r}: set datasets.{self.name}.labels: {known}"
            )
        present = getattr(self, f"labels_from_{source}")(root, image_id, split)
        if not present and not self.background:
            raise UserError(
                f"{image_id}: no class, and {self.name} has no background: label it, or remove it "
                "from the split"
            )
        return present

    def labels_from_csv(self, root: Path, image_id: str, split: str | None) -> list[str]:
        from attnseg.datasets.labels import listed_labels

        return listed_labels(root, image_id, self.classes)

    def labels_from_xml(self, root: Path, image_id: str, split: str | None) -> list[str]:
        from attnseg.datasets.labels import xml_labels

        return xml_labels(self.annotation_path(root, image_id, split), self)

    def labels_from_instances(self, root: Path, image_id: str, split: str | None) -> list[str]:
        from attnseg.datasets.labels import coco_labels

        return coco_labels(self.coco_path(root), image_id, self)

    def labels_from_folders(self, root: Path, image_id: str, split: str | None) -> list[str]:
        path = self.image_path(root, image_id, split)
        self.number(path.parent.name)
        return [path.parent.name]

    def labels_from_known(self, root: Path, image_id: str, split: str | None) -> list[str]:
        from attnseg.datasets.labels import known_labels

        said = known_labels(self, root, image_id, split)
        return list(self.classes) if said is None else said

    def labels_from_all(self, root: Path, image_id: str, split: str | None) -> list[str]:
        return list(self.classes)

    def labels_from_mask(self, root: Path, image_id: str, split: str | None) -> list[str]:
        import numpy as np

        numbers = np.unique(self.read_truth(root, image_id, split=split)).tolist()
        names = self.class_names
        wrong = [n for n in numbers if n >= len(names) and n != self.ignored]
        if wrong:
            raise UserError(
                f"{self.mask_path(root, image_id, split)}: class number {wrong[-1]}: {self.name} has "
                f"{int(self.background)} to {len(names) - 1}; correct the mask, "
                "or set mask_values if the files are numbered differently"
            )
        return [names[n] for n in numbers if n not in (self.ignored, self.unclassed)]

    def read_truth(
        self,
        root: Path,
        image_id: str,
        size: tuple[int, int] | None = None,
        split: str | None = None,
    ) -> "np.ndarray":
        """Read a ground-truth mask as class numbers: [H, W] uint8. `size`: its expected (H, W)."""
        from attnseg.datasets.images import read_mask

        mask = read_mask(self.mask_path(root, image_id, split), size)
        if self.mask_values:
            import numpy as np

            numbers = np.full(256, self.ignored, np.uint8)
            numbers[0] = self.unclassed
            numbers[list(self.mask_values)] = self.background + np.arange(len(self.mask_values))
            mask = numbers[mask]
        return mask

    def write_mask(self, path: Path, mask: "np.ndarray") -> None:
        """Write class numbers [H, W] as a PNG in the data set's colours, atomically."""
        from attnseg.datasets.images import write_mask

        write_mask(path, mask, self.colours())

    def colours(self) -> "np.ndarray":
        """The palette: [256, 3] uint8."""
        import numpy as np

        from attnseg.datasets.images import PALETTE

        if not self.palette:  # VOC's first colour, black, is for the background
            return PALETTE if self.background else np.r_[PALETTE[1:255], PALETTE[[0, 255]]]
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.palette)] = self.palette
        return colours

    def prompt_names(self, root: Path | None) -> Mapping[str, tuple[str, ...]]:
        """Names of each class in prompts from the template; one of them is drawn."""
        return {name: (self.synonyms.get(name, name),) for name in self.classes}

    def caption_names(self, literal: bool) -> dict[str, tuple[str, ...]]:
        """Names of each class in captions; `literal`: fewer names for some classes."""
        known = {**self.caption_words, **(self.literal_caption_words if literal else {})}
        return {name: known.get(name, (self.synonyms.get(name, name),)) for name in self.classes}


def shipped(name: str) -> Dataset:
    """A data set of this package."""
    return import_module(f"attnseg.datasets.{name}").DATASET


def _folder(pattern: str) -> str:
    """The leading folders of a pattern that are the same for all files of a split."""
    parts: Sequence[str] = pattern.split("/")[:-1]
    count = next((i for i, part in enumerate(parts) if "*" in part or "{id}" in part), len(parts))
    return "/".join(parts[:count])


def _is_picture(path: Path) -> bool:
    """True if Pillow reads files with this suffix."""
    if path.suffix in USUAL_SUFFIXES:
        return True
    from PIL import Image

    return path.suffix.lower() in Image.registered_extensions()
