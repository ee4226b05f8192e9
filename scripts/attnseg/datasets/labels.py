"""Image-level labels from files: VOC's annotations, or labels.csv in the data set's root.

labels.csv is for photos without annotations. Classes are separated by semicolons and may be absent::

    id,classes
    2012_000001,dog;person
    2012_000002,
"""

import csv
import functools
from pathlib import Path
from xml.etree import ElementTree

from attnseg.datasets.dataset import Dataset
from attnseg.errors import UserError


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
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(
            f"{path}: cannot be read ({error}); it must have the columns id and "
            "classes, or set the labels of the data set to mask, folders or xml"
        ) from None
    if not {"id", "classes"} <= set(reader.fieldnames or ()):
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


def xml_labels(path: Path, dataset: Dataset) -> list[str]:
    """Classes of the objects in a VOC annotation, including difficult ones, in order."""
    try:
        elements = ElementTree.parse(path).findall("object/name")
        names = [element.text.strip() for element in elements]  # type: ignore[union-attr]  # below
    except FileNotFoundError:
        raise UserError(
            f"{path}: no annotation of this image; set datasets.{dataset.name}.labels: mask"
        ) from None
    except (ElementTree.ParseError, AttributeError) as problem:
        raise UserError(f"{path}: not a readable VOC annotation ({problem})") from None
    for name in names:
        if name not in dataset.classes:
            known = ", ".join(dataset.classes)
            raise UserError(f"{path}: unknown class {name!r}: {dataset.name}'s are {known}")
    return sorted(set(names), key=dataset.classes.index)
