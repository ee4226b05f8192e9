"""Pascal VOC's segmentation: JPEGImages, SegmentationClass, SegmentationObject, Annotations, ImageSets.
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html"""

from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from attnseg.app.exports.masks import Masks, Photo
from attnseg.datasets.images import PALETTE, write_mask
from attnseg.errors import UserError

VOID = 255


def write(masks: Masks, output: Path, polygons: bool) -> None:
    """Class numbers from 1, with 0 the background. Void are what the masks ignore and, among objects,
    parts that are too small for an instance."""
    classes = {number: new for new, number in enumerate(masks.classes, 1)}
    if VOID in classes.values():
        raise UserError("--format voc: 255 is VOC's void; it has no place for 255 classes")
    numbers = np.zeros(256, np.uint8)
    numbers[list(classes)] = list(classes.values())
    if masks.ignored is not None:
        numbers[masks.ignored] = VOID
    ids = []
    for photo in masks:
        if len(photo.instances) >= VOID:
            raise UserError(
                f"{photo.id}: {len(photo.instances)} instances; VOC has place for 254: leave out "
                "small ones with --smallest"
            )
        labels = numbers[photo.labels]
        objects = np.where(labels > 0, VOID, 0).astype(np.uint8)
        for number, instance in enumerate(photo.instances, 1):
            x, y, width, height = instance.box
            objects[y : y + height, x : x + width][instance.inside] = number
        write_mask(output / "SegmentationClass" / f"{photo.id}.png", labels, PALETTE)
        write_mask(output / "SegmentationObject" / f"{photo.id}.png", objects, PALETTE)
        content, suffix = photo.file(("JPEG",))
        for folder, end, data in (
            ("JPEGImages", suffix, content),
            ("Annotations", ".xml", annotation(photo, masks)),
        ):
            path = output / folder / f"{photo.id}{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        ids.append(photo.id)
    lists = output / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{image_id}\n" for image_id in ids))
    (output / "labels.txt").write_text("".join(f"{n}\n" for n in ["background", *masks.classes.values()]))  # fmt: skip


def annotation(photo: Photo, masks: Masks) -> bytes:
    """The objects and their boxes, counted from 1, the last pixel included."""
    height, width = photo.size
    root = ElementTree.Element("annotation")
    add(root, "folder", "VOC")
    add(root, "filename", f"{photo.id}.jpg")
    source = add(root, "source")
    add(source, "database", "masks of attnseg")
    for key, text in masks.about.items():
        add(source, {"licence": "license"}.get(key, key), text)
    size = add(root, "size")
    for key, number in (("width", width), ("height", height), ("depth", 3)):
        add(size, key, number)
    add(root, "segmented", 1)
    for instance in photo.instances:
        x, y, wide, high = instance.box
        entry = add(root, "object")
        for key, value in (
            ("name", instance.name), ("pose", "Unspecified"), ("truncated", 0), ("difficult", 0)
        ):  # fmt: skip
            add(entry, key, value)
        box = add(entry, "bndbox")
        for key, number in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + wide), ("ymax", y + high)):  # fmt: skip
            add(box, key, number)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8")


def add(parent: ElementTree.Element, tag: str, text: object = None) -> ElementTree.Element:
    child = ElementTree.SubElement(parent, tag)
    child.text = None if text is None else str(text)
    return child
