"""Write mini VOC, in VOC 2012's layout (``attnseg.datasets.voc``)."""

from pathlib import Path
from typing import cast
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from attnseg.datasets.voc import DATASET as VOC
from attnseg.mini.world.scenes import Scene
from attnseg.mini.world.splits import VOC_SPLITS, voc_id, voc_scene


def write_voc(root: Path, seed: int) -> None:
    """Write all splits of mini VOC to `root`, a folder VOCdevkit/VOC2012."""
    for name in ("JPEGImages", "Annotations", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for split, (_, count) in VOC_SPLITS.items():
        ids = [voc_id(split, i) for i in range(count)]
        if split != "train":  # its scenes are written with trainaug's
            for i, image_id in enumerate(ids):
                write_scene(root, image_id, voc_scene(seed, split, i))
        cast(Path, VOC.list_path(root, split)).write_text("\n".join(ids) + "\n")


def write_scene(root: Path, image_id: str, scene: Scene) -> None:
    """Write the photo, mask and annotation of a scene."""
    image = Image.fromarray(scene.image)
    image.save(VOC.image_path(root, image_id), quality=95, subsampling=0)
    VOC.write_mask(VOC.mask_path(root, image_id), scene.labels(VOC.classes))
    annotation = ElementTree.Element("annotation")
    ElementTree.SubElement(annotation, "folder").text = "VOC2012"
    ElementTree.SubElement(annotation, "filename").text = f"{image_id}.jpg"
    size = ElementTree.SubElement(annotation, "size")
    for key, value in zip(("width", "height", "depth"), (*image.size, 3), strict=True):
        ElementTree.SubElement(size, key).text = str(value)
    ElementTree.SubElement(annotation, "segmented").text = "1"
    for thing in scene.things:
        element = ElementTree.SubElement(annotation, "object")
        ElementTree.SubElement(element, "name").text = thing.name
        ElementTree.SubElement(element, "difficult").text = "0"
        box = ElementTree.SubElement(element, "bndbox")
        rows, columns = np.nonzero(thing.mask)
        corners = (columns.min(), rows.min(), columns.max(), rows.max())
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            ElementTree.SubElement(box, key).text = str(int(value) + 1)
    ElementTree.indent(annotation)
    ElementTree.ElementTree(annotation).write(root / "Annotations" / f"{image_id}.xml")
