"""Convert COCO's instances to semantic masks, and index a split.

As in the scripts of weakly supervised segmentation (annToMask.py of BECO): instances are drawn in the
order of the file, so that the last one is on top, and crowds are left out. No pixel is ignored.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from attnseg.datasets import Dataset, coco
from attnseg.datasets.coco import DATASET
from attnseg.io.files import write_json
from attnseg.io.runs import forget_once


def rasterise(annotations: Sequence[dict], height: int, width: int, numbers: dict) -> np.ndarray:
    """Draw the instances of one image as class numbers: [H, W] uint8."""
    from pycocotools import mask as coco_mask

    mask = np.zeros((height, width), np.uint8)
    for annotation in annotations:
        shape = annotation["segmentation"]
        if annotation.get("iscrowd") or not shape or annotation["category_id"] not in numbers:
            continue
        if isinstance(shape, list):  # polygons of one instance
            code = coco_mask.merge(coco_mask.frPyObjects(shape, height, width))
        elif isinstance(shape["counts"], list):
            code = coco_mask.frPyObjects(shape, height, width)
        else:
            code = shape
        mask[coco_mask.decode(code).astype(bool)] = numbers[annotation["category_id"]]
    return mask


def build_masks(
    root: Path,
    split: str,
    progress: Callable[[Iterable], Iterable] = iter,
    dataset: Dataset = DATASET,
) -> dict:
    """Write the masks of a split, then its index; how many images and pixels.

    Existing masks are kept, since each is written atomically.
    """
    split = coco.full_split(root, split)
    content = coco.read_annotations(root, split)
    numbers = coco.class_numbers(content["categories"], dataset.classes)
    items = coco.index(content, dataset.classes)
    of_image: dict[int, list[dict]] = {}
    for annotation in content["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    images = [image for image in content["images"] if image["id"] in of_image]
    index_path = Path(root) / "masks" / f"{split}.json"
    paths = [dataset.mask_path(root, Path(image["file_name"]).stem) for image in images]
    forget_once(index_path.with_name(f".{split}.forced"), paths)
    made = 0
    for image, path in progress(list(zip(images, paths, strict=True))):
        if not path.exists():
            mask = rasterise(of_image[image["id"]], image["height"], image["width"], numbers)
            dataset.write_mask(path, mask)
            made += 1
    write_json(index_path, {"split": split, "classes": dataset.classes, "items": items})
    coco.split_items.cache_clear()
    return {"split": split, "images": len(items), "made": made}
