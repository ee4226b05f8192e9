"""Image-level labels from files: VOC's annotations, a COCO file, or labels.csv in the data set's root.

labels.csv is for photos without annotations. Classes are separated by semicolons and may be absent::

    id,classes
    2012_000001,dog;person
    2012_000002,

Annotations of one's own may name more than the data set's classes, and otherwise: a name means the class
of that name or that word in queries, in any case, with spaces, hyphens or underscores. What it means is
said by `meanings`, what is left over by `leftovers`.
"""

import csv
import functools
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from attnseg.datasets.dataset import Dataset
from attnseg.errors import UserError, some
from attnseg.io.files import parsed


def listed_labels(root: Path, image_id: str, classes: tuple[str, ...]) -> list[str]:
    """Read an image's classes from labels.csv, in the order of `classes`.

    Raises:
        UserError: if the image is missing or a line is wrong; the message names it.
    """
    path = Path(root) / "labels.csv"
    labels = read_labels(path, classes)
    if image_id not in labels:
        raise UserError(
            f"{path}: no line for image {image_id!r}; add one, without classes if there are none"
        )
    return labels[image_id]


@functools.cache
def read_labels(path: Path, classes: tuple[str, ...] | None) -> dict[str, list[str]]:
    """The classes of each image that a labels.csv lists, in the order of `classes`; None: sorted.

    Raises:
        UserError: if the file cannot be read or a line is wrong; the message names it.
    """
    try:
        with open(path, newline="") as file:
            reader = csv.DictReader(file)
            rows, columns = list(reader), set(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); it must have the columns id and "
            "classes, or set the labels of the data set to mask, folders or xml"
        ) from None
    if not {"id", "classes"} <= columns:
        raise UserError(f"{path}, line 1: the columns must be id and classes")
    labels: dict[str, list[str]] = {}
    for number, row in enumerate(rows, 2):
        image_id, text = row.get("id"), row.get("classes")
        if not image_id or text is None:
            raise UserError(f"{path}, line {number}: the columns must be id and classes")
        if image_id in labels:
            raise UserError(f"{path}, line {number}: repeated image {image_id!r}; remove one line")
        names = {name.strip() for name in text.split(";") if name.strip()}
        if classes is not None and (unknown := names - set(classes)):
            raise UserError(
                f"{path}, line {number}: unknown class {min(unknown)!r}: known are {', '.join(classes)}"
            )
        labels[image_id] = sorted(names, key=classes.index if classes else None)
    return labels


def meanings(dataset: Dataset) -> dict[str, str]:
    """The class that a name in annotations means, by the name as `plain` writes it."""
    words = {plain(word): name for name, word in dataset.synonyms.items()}
    return words | {plain(name): name for name in dataset.classes}


def plain(name: str) -> str:
    """A name in small letters, with single spaces in place of hyphens, underscores and more spaces."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def xml_labels(path: Path, dataset: Dataset) -> list[str]:
    """Classes of the objects in a VOC annotation, including difficult ones, in order.

    Raises:
        UserError: if it cannot be read, or names no class of a data set of this package.
    """
    names, meant = xml_names(path, dataset), meanings(dataset)
    unknown = [name for name in names if plain(name) not in meant]
    if unknown and dataset.layout:
        known = ", ".join(dataset.classes)
        raise UserError(f"{path}: unknown class {unknown[0]!r}: {dataset.name}'s are {known}")
    return ordered(names, dataset)


def ordered(names: Iterable[str], dataset: Dataset) -> list[str]:
    """The classes that names in annotations mean, in the data set's order; others are left out."""
    meant = meanings(dataset)
    present = {meant[plain(name)] for name in names if plain(name) in meant}
    return sorted(present, key=dataset.classes.index)


def xml_names(path: Path, dataset: Dataset) -> Counter[str]:
    """How many objects of each name a VOC annotation has."""
    try:
        elements = ElementTree.parse(path).findall("object/name")
        return Counter(element.text.strip() for element in elements)  # type: ignore[union-attr]  # below
    except FileNotFoundError:
        raise UserError(
            f"{path}: no annotation of this image; set datasets.{dataset.name}.labels: mask"
        ) from None
    except (ElementTree.ParseError, AttributeError) as problem:
        raise UserError(f"{path}: not a readable VOC annotation ({problem})") from None


# -- a COCO file


@functools.cache
def coco_names(path: Path) -> dict[str, Counter[str]]:
    """How many objects of each category the photos of a COCO file have, crowds left out.

    By the photo's `file_name` with slashes and without suffix. Photos without objects have none.

    Raises:
        UserError: if it is no such file, or names a photo or category that it does not have.
    """
    try:
        content = parsed(path.read_bytes())
        categories = {entry["id"]: entry["name"] for entry in content["categories"]}
        names = {entry["id"]: without_suffix(entry["file_name"]) for entry in content["images"]}
        found: dict[str, Counter[str]] = {name: Counter() for name in names.values()}
        for entry in content["annotations"]:
            if not entry.get("iscrowd"):
                found[names[entry["image_id"]]][categories[entry["category_id"]]] += 1
    except OSError as problem:
        raise UserError(f"{path}: {problem.strerror}; name the file of COCO annotations") from None
    except KeyError as missing:
        raise UserError(
            f"{path}: not a COCO annotation file, or cut off: it has no {missing}"
        ) from None
    except (ValueError, TypeError, AttributeError) as problem:
        raise UserError(f"{path}: not a COCO annotation file ({problem})") from None
    return found


def without_suffix(file_name: str) -> str:
    """The id of a photo by its path, which may be one of Windows."""
    return re.sub(r"\.\w+$", "", file_name.replace("\\", "/")).lstrip("/")


def coco_entry(path: Path, image_id: str) -> str | None:
    """The photo of a COCO file that is meant by an id, or None.

    Folders may be missing at the beginning of either: images/train/a is a, and a is kitchen/a.

    Raises:
        UserError: if several photos of the file could be meant.
    """
    found = coco_names(path)
    if image_id in found:
        return image_id
    names = _by_last_part(path).get(image_id.rpartition("/")[2], [])
    names = [n for n in names if f"/{n}".endswith(f"/{image_id}") or image_id.endswith(f"/{n}")]
    if len(names) > 1:
        raise UserError(
            f"{path}: photo {image_id!r} could be {names[0]} or {names[1]}: put the photos in the "
            "folders that their file_name says"
        )
    return names[0] if names else None


@functools.cache
def _by_last_part(path: Path) -> dict[str, list[str]]:
    """The photos of a COCO file by their names without folders."""
    found: dict[str, list[str]] = {}
    for name in coco_names(path):
        found.setdefault(name.rpartition("/")[2], []).append(name)
    return found


def coco_labels(path: Path, image_id: str, dataset: Dataset) -> list[str]:
    """Classes of a photo's objects in a COCO file of any categories, in the data set's order."""
    entry = coco_entry(path, image_id)
    if entry is None:
        raise UserError(
            f"{path}: no image {image_id!r} among its {len(coco_names(path))}; add it, without "
            "annotations if nothing is in it"
        )
    return ordered(coco_names(path)[entry], dataset)


# -- some of the photos


def known_labels(
    dataset: Dataset, root: Path, image_id: str, split: str | None = None
) -> list[str] | None:
    """Classes of a photo by its data set's annotations, else by labels.csv; None where neither has it."""
    said = annotated_labels(dataset, root, image_id, split)
    table = Path(root) / "labels.csv"
    if said is None and table.is_file():
        return read_labels(table, dataset.classes).get(image_id)
    return said


def annotated_labels(
    dataset: Dataset, root: Path, image_id: str, split: str | None = None
) -> list[str] | None:
    """Classes of a photo by its data set's annotations; None where these do not have it."""
    if dataset.annotations and "{" not in dataset.annotations:
        entry = coco_entry(dataset.coco_path(root), image_id)
        if entry is not None:
            return ordered(coco_names(dataset.coco_path(root))[entry], dataset)
    elif dataset.annotations:
        path = dataset.annotation_path(root, image_id, split)
        if path.is_file():
            return xml_labels(path, dataset)
    return None


def file_source(dataset: Dataset, root: Path) -> str | None:
    """The source of labels that some of the photos have in files, or None."""
    if dataset.annotations:
        return "xml" if "{" in dataset.annotations else "instances"
    return "csv" if (Path(root) / "labels.csv").is_file() else None


# -- what is left over


def leftovers(dataset: Dataset, root: Path, ids: Sequence[str], source: str | None) -> list[str]:
    """What labels in files say that nobody uses, a line for each kind: photos that are not among `ids`,
    names that are no class, and classes that are never named. `source`: see `Dataset.labels`.

    Raises:
        UserError: if one entry of a COCO file would be that of two photos.
    """
    named: Counter[str] = Counter()
    if source in ("known", "all"):
        source = file_source(dataset, root)
    if source == "csv":
        path, known = Path(root) / "labels.csv", set(ids)
        strays = [name for name in read_labels(path, dataset.classes) if name not in known]
        return _lines(path, strays, named, dataset)
    if source == "instances":
        path = dataset.coco_path(root)
        entries: dict[str, str] = {}
        for image_id in ids:
            entry = coco_entry(path, image_id)
            if entry is not None and entries.setdefault(entry, image_id) != image_id:
                raise UserError(
                    f"{path}: {entry} could be {entries[entry]} or {image_id}: let file_name begin "
                    "with the folder"
                )
        found = coco_names(path)
        for counts in found.values():
            named += counts
        return _lines(path, [name for name in found if name not in entries], named, dataset)
    if source == "xml":
        paths = {dataset.annotation_path(root, image_id) for image_id in ids}
        for path in filter(Path.is_file, paths):
            named += xml_names(path, dataset)
        folder = min(paths, key=lambda path: len(path.parts)).parent
        strays = [path.stem for path in sorted(folder.rglob("*.xml")) if path not in paths]
        return _lines(folder, strays, named, dataset)
    return []


def _lines(where: Path, strays: Sequence[str], named: Counter[str], dataset: Dataset) -> list[str]:
    lines, meant = [], meanings(dataset)
    if strays:
        lines.append(f"{where}: labels of {len(strays)} that are no photos here: {some(strays)}")
    others = {name: count for name, count in sorted(named.items()) if plain(name) not in meant}
    if others:
        told = some([f"{name} ({count})" for name, count in others.items()])
        lines.append(f"{where}: {len(others)} names that are no class, ignored: {told}")
    absent = [name for name in dataset.classes if name not in ordered(named, dataset)]
    if named and absent:
        lines.append(
            f"{where}: {len(absent)} classes that it never names: {some(absent)}; if it calls them "
            "otherwise, say so in synonyms"
        )
    return lines
