"""What a data set is: its classes, the words for them, where its files lie; and which there are.

A data set is plain data, readable without numpy: rules ask it while the Snakefile is parsed. What
reads pictures imports numpy and PIL when it is called. One of this package is the `DATASET` of its
file beside this one; one of your own is an entry of `datasets` in the configuration, or a file of
the same form that the entry names.

Patterns of paths are below the data set's root. `{split}` and `{id}` stand for themselves, `*` for
any folder, and `.*` at the end for any suffix of a picture; an id may hold folders.
"""

import difflib
import glob
import importlib.util
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnseg.errors import UserError
from attnseg.io.files import safe_name

if TYPE_CHECKING:
    import numpy as np

SHIPPED = ("voc", "coco", "imagenet_s", "cityscapes", "mug19")  # each a file of this folder
DEFAULT = SHIPPED[0]
HELP = "name of a data set of this package, or JSON of one of your own (its entry in the configuration, and `key`)"
# what an entry of `datasets` in the configuration may say of the data set itself
FACTS = (
    "layout", "file", "classes", "background", "palette", "photos", "masks", "mask_values", "lists",
    "annotations", "synonyms", "background_words", "prompt",
)  # fmt: skip
# those of Text2Mask, Section 3.3
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
    """The facts of a data set. `name` is its key in the configuration."""

    name: str
    classes: tuple[str, ...] = ()
    background: bool = True  # masks: 0 is the background, classes count from 1; else from 0
    ignored: int = 255  # in masks that train and evaluate
    palette: tuple[tuple[int, int, int], ...] = ()  # of a mask's numbers, from 0 on; () for VOC's
    layout: str = ""  # the data set of this package that it is, or is laid out as

    # where files lie
    photos: str | None = "images/{split}/{id}.*"
    masks: str | None = "masks/{split}/{id}.png"
    mask_values: tuple[int, ...] = ()  # of the classes in true masks, where not those that train
    lists: str | None = None  # ids of a split, one a line; without, those of its photos
    annotations: str | None = None  # VOC's XML, for labels of `xml`
    label_sources: tuple[str, ...] = ("csv", "mask", "folders", "xml")  # the default first

    # what real photos are asked for (Text2Mask)
    synonyms: Mapping[str, str] = field(default_factory=dict)
    background_words: tuple[str, ...] | None = None  # None: Text2Mask's where there is a background
    official_background_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    official_box_threshold: float = 0.2

    # what images are generated from (attn2mask): captions that name a class, or a template
    captions: str | None = None  # COCO captions, below the root
    caption_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    literal_caption_words: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    distractors: tuple[str, ...] = ()  # phrases that hold a class's word and do not mean it
    prompt: str = "a photo of {}"
    adapted_prompt: str | None = None  # with a LoRA's domain token
    prompt_classes: int = 1  # at most, in a prompt
    names_below_root: bool = False  # what prompts call the classes is read from the root

    def __post_init__(self) -> None:
        if self.background_words is None:
            words = BACKGROUND_WORDS if self.background else ()
            object.__setattr__(self, "background_words", words)

    # -- class numbers

    @property
    def class_names(self) -> list[str]:
        """What the numbers in masks mean, from 0 on."""
        return ["background", *self.classes] if self.background else list(self.classes)

    @property
    def unclassed(self) -> int:
        """The number in masks of what belongs to no class."""
        return 0 if self.background else self.ignored

    def number(self, name: str) -> int:
        """A class's number in masks."""
        if name not in self.classes:
            raise UserError(f"class {name!r} is none of {self.name}: check --dataset")
        return self.background + self.classes.index(name)

    def identity(self) -> dict:
        """What of it decides masks and may change: nothing of a data set of this package."""
        kept = self.layout and self.class_names == shipped(self.layout).class_names
        return {} if kept else {"classes": self.class_names}

    def vocabulary(self) -> str | dict:
        """What of it decides queries; of a data set of this package its name."""
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
        """The folder, below the root, below which the photos of a split lie."""
        return self.photos and _folder(self.photos).format(split=split)

    def training_masks(self, split: str) -> str | None:
        """The folder, below the root, of true masks that segmentors learn from as they are."""
        if self.mask_values or not self.masks or _folder(self.masks) + "/{id}.png" != self.masks:
            return None
        return _folder(self.masks).format(split=split)

    def list_path(self, root: Path, split: str) -> Path | None:
        """The file that lists a split."""
        return Path(root) / self.lists.format(split=split) if self.lists else None

    def read_split(self, root: Path, split: str) -> list[str]:
        """The ids of a split: in the order of its list, or sorted."""
        path = self.list_path(root, split)
        if path is None:
            return self.found(root, self.photos, split)
        if not path.is_file():
            raise UserError(f"{path}: no list of split {split!r}: check datasets.{self.name}.root")
        ids = path.read_text().split()
        if not ids:
            raise UserError(f"{path}: the list is empty: restore it from the data set's archive")
        for image_id in ids:
            for part in image_id.split("/"):
                safe_name(part, path)
        return ids

    def found(self, root: Path, pattern: str | None, split: str) -> list[str]:
        """The ids of the files of a pattern, sorted."""
        if pattern is None:
            raise UserError(f"datasets.{self.name}: no pattern of its files; set photos and masks")
        pattern = pattern.format(split=split, id="{id}")
        parts = re.split(r"(\.\*$|\*|\{id\})", pattern)
        spelled = {".*": r"\.\w+", "*": "[^/]*", "{id}": "(.+)"}
        form = re.compile("".join(spelled.get(part, re.escape(part)) for part in parts))
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
            raise UserError(f"{folder}: {twice!r} is there twice: give each file a name of its own")
        return ids

    def image_path(self, root: Path, image_id: str, split: str | None = None) -> Path:
        """The photo. Without a `split` it is looked for in all."""
        return self._place(root, self.photos, image_id, split)

    def mask_path(self, root: Path, image_id: str, split: str | None = None) -> Path:
        """The true mask; `read_truth` reads it."""
        return self._place(root, self.masks, image_id, split)

    def _place(self, root: Path, pattern: str | None, image_id: str, split: str | None) -> Path:
        if pattern is None:
            raise UserError(f"datasets.{self.name}: no pattern of its files; set photos and masks")
        path = Path(root, pattern.format(split=split or "*", id=image_id))
        if "*" not in pattern and (split or "{split}" not in pattern):
            return path
        if pattern.endswith(".*"):  # a look into a large folder would cost more
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
        """The ids of a split, its photos, and with `masks` its true masks."""
        ids = self.read_split(root, split)
        return (
            ids,
            [self.image_path(root, image_id, split) for image_id in ids],
            [self.mask_path(root, image_id, split) for image_id in ids] if masks else [],
        )

    def build(self, root: Path, splits: Mapping[str, int], processes: int) -> None:
        """Make what config/datasets.yaml says is built; `splits`: name -> images."""
        raise UserError(f"datasets.{self.name}: nothing is built of it")

    # -- contents

    def labels(
        self, root: Path, image_id: str, source: str | None = None, split: str | None = None
    ) -> list[str]:
        """The classes present, in the order of `classes`; empty where there is none.

        `source`: of `label_sources`: "csv", those of labels.csv; "mask", of the true mask (the
        official code); "folders", the photo's folder is its class; "xml", the annotated objects,
        difficult ones included. Another is read by a method `labels_from_<source>`.
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
                f"{image_id}: no class, and {self.name} has no background: label it, or take it out "
                "of the split"
            )
        return present

    def labels_from_csv(self, root: Path, image_id: str, split: str | None) -> list[str]:
        from attnseg.datasets.labels import listed_labels

        return listed_labels(root, image_id, self.classes)

    def labels_from_xml(self, root: Path, image_id: str, split: str | None) -> list[str]:
        from attnseg.datasets.labels import xml_labels

        if not self.annotations:
            raise UserError(f"datasets.{self.name}.annotations: where are the XML files? Set it")
        return xml_labels(self._place(root, self.annotations, image_id, split), self)

    def labels_from_folders(self, root: Path, image_id: str, split: str | None) -> list[str]:
        path = self.image_path(root, image_id, split)
        self.number(path.parent.name)
        return [path.parent.name]

    def labels_from_mask(self, root: Path, image_id: str, split: str | None) -> list[str]:
        import numpy as np

        numbers = np.unique(self.read_truth(root, image_id, split=split)).tolist()
        names = self.class_names
        wrong = [n for n in numbers if n >= len(names) and n != self.ignored]
        if wrong:
            raise UserError(
                f"{self.mask_path(root, image_id, split)}: class number {wrong[-1]}: {self.name} has "
                f"{int(self.background)} to {len(names) - 1}"
            )
        return [names[n] for n in numbers if n not in (self.ignored, self.unclassed)]

    def read_truth(
        self,
        root: Path,
        image_id: str,
        size: tuple[int, int] | None = None,
        split: str | None = None,
    ) -> "np.ndarray":
        """The true mask in the numbers of `class_names`: [H, W] uint8. `size`: the (H, W) it must have."""
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
        """A PNG in the data set's colours, atomically. `mask`: [H, W] class numbers."""
        from attnseg.datasets.images import write_mask

        write_mask(path, mask, self.colours())

    def colours(self) -> "np.ndarray":
        """The palette: [256, 3] uint8."""
        import numpy as np

        from attnseg.datasets.images import PALETTE

        if not self.palette:  # black is the background's
            return PALETTE if self.background else np.r_[PALETTE[1:255], PALETTE[[0, 255]]]
        colours = np.zeros((256, 3), np.uint8)
        colours[: len(self.palette)] = self.palette
        return colours

    def prompt_names(self, root: Path | None) -> Mapping[str, tuple[str, ...]]:
        """Class -> what a prompt from the template calls it, one of several."""
        return {name: (self.synonyms.get(name, name),) for name in self.classes}

    def caption_names(self, literal: bool) -> dict[str, tuple[str, ...]]:
        """Class -> what a caption may call it. `literal`: with fewer words for some."""
        known = {**self.caption_words, **(self.literal_caption_words if literal else {})}
        return {name: known.get(name, (self.synonyms.get(name, name),)) for name in self.classes}


def load(name: str, settings: Mapping | None = None) -> Dataset:
    """The data set `name`; `settings` is its entry in the configuration.

    `name` may be the JSON of an entry instead, its key in `key`, as `argument` makes it.

    Raises:
        UserError: for a name without an entry's facts that this package does not know, and for
            facts that contradict each other.
    """
    if name.lstrip().startswith("{"):
        try:
            entry = json.loads(name)
            name, settings = entry.pop("key"), entry
        except (ValueError, KeyError) as problem:
            raise UserError(f"--dataset {name}: not JSON with a `key` ({problem})") from None
    facts = {key: value for key, value in (settings or {}).items() if value is not None}
    where = f"datasets.{name}"
    if "file" in facts:
        dataset, layout = _of_file(Path(facts["file"]), where), ""
    elif facts.get("layout", name) in SHIPPED:
        layout = facts.get("layout", name)
        dataset = shipped(layout)
    elif "layout" in facts or "classes" not in facts:
        close = difflib.get_close_matches(facts.get("layout", name), SHIPPED, n=1)
        hint = f"; did you mean `{close[0]}`?" if close else ""
        raise UserError(
            f"{where}: no such data set; give it `classes`, or a `layout`: {', '.join(SHIPPED)}{hint}"
        )
    else:
        dataset, layout = Dataset(name), ""
    own: dict[str, Any] = {key: _frozen(facts[key]) for key in FACTS[2:] if key in facts}
    if "background" in own and "background_words" not in own:
        own["background_words"] = None
    dataset = replace(dataset, name=name, layout=layout, **own)
    _check(dataset, where)
    source = facts.get("labels")
    if source is not None:
        if source not in dataset.label_sources:
            known = ", ".join(dataset.label_sources)
            raise UserError(f"{where}.labels: {source!r} is none of {known or 'any'}")
        others = tuple(other for other in dataset.label_sources if other != source)
        dataset = replace(dataset, label_sources=(source, *others))
    return dataset


def argument(name: str, settings: Mapping) -> str | dict:
    """What tells a program of a data set: its name, or a mapping for `load` where that is not all."""
    own = {key: settings[key] for key in FACTS if settings.get(key) is not None}
    return {"key": name, **own} if own else name


def shipped(name: str) -> Dataset:
    """A data set of this package."""
    return import_module(f"attnseg.datasets.{name}").DATASET


def _of_file(path: Path, where: str) -> Dataset:
    name = f"attnseg_dataset_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise UserError(f"{where}.file: {path}: no such Python file")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    dataset = getattr(module, "DATASET", None)
    if not isinstance(dataset, Dataset):
        raise UserError(f"{where}.file: {path}: it exports no DATASET, a Dataset")
    return dataset


def _check(dataset: Dataset, where: str) -> None:
    classes = dataset.classes
    if len(set(classes)) < len(classes) or len(classes) + dataset.background > dataset.ignored:
        raise UserError(f"{where}.classes: at most 254 names, each once")
    values = dataset.mask_values
    if values and (len(values) != len(classes) or len(set(values)) < len(values)):
        raise UserError(f"{where}.mask_values: one number a class, each once, in their order")
    for key in ("photos", "masks", "annotations"):
        pattern = getattr(dataset, key)
        if pattern is not None and set(re.findall(r"\{(.*?)\}", pattern)) - {"split"} != {"id"}:
            raise UserError(
                f"{where}.{key}: {pattern}: write {{id}} where a photo's name stands, and of other "
                "braces {split} alone"
            )
    if "{}" not in dataset.prompt:
        raise UserError(f"{where}.prompt: {dataset.prompt}: write {{}} where the class stands")
    unknown = [name for name in dataset.synonyms if classes and name not in classes]
    if unknown and not dataset.layout:
        raise UserError(f"{where}.synonyms: {unknown[0]!r} is none of its classes")


def _frozen(value: object) -> object:
    if isinstance(value, list):
        return tuple(_frozen(item) for item in value)
    return value


def _folder(pattern: str) -> str:
    """The folders of a pattern before the first that is not the same for all files of a split."""
    parts: Sequence[str] = pattern.split("/")[:-1]
    count = next((i for i, part in enumerate(parts) if "*" in part or "{id}" in part), len(parts))
    return "/".join(parts[:count])


def _is_picture(path: Path) -> bool:
    """Whether Pillow reads files of this suffix."""
    if path.suffix in USUAL_SUFFIXES:
        return True
    from PIL import Image

    return path.suffix.lower() in Image.registered_extensions()
