"""Write mini COCO: scenes of twice as many classes as mini VOC, in COCO 2014's layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from attnseg.datasets import coco, coco_masks
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.io.files import write_json
from attnseg.mini.world.captions import caption
from attnseg.mini.world.scenes import Scene, Thing, object_scene
from attnseg.mini.world.vocabulary import COCO_EXTRA_CLASSES

# split -> (random stream, scenes, name on disk)
COCO_SPLITS = {"train": (31, 1000, "train2014"), "val": (32, 200, "val2014")}
# VOC's class -> its name in COCO
COCO_NAMES = {
    "aeroplane": "airplane",
    "diningtable": "dining table",
    "motorbike": "motorcycle",
    "pottedplant": "potted plant",
    "sofa": "couch",
    "tvmonitor": "tv",
}
GAPS = (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)  # numbers without a COCO category
CATEGORY_IDS = [number for number in range(1, 91) if number not in GAPS]


def coco_scene(seed: int, split: str, index: int) -> tuple[Scene, str]:
    """Scene number `index` of a split, and a caption."""
    stream, count, _ = COCO_SPLITS[split]
    if not 0 <= index < count:
        raise IndexError(f"{split} has {count} scenes, there is no scene {index}")
    rng = np.random.default_rng([seed, stream, index])
    scene = object_scene(rng, VOC_CLASSES + COCO_EXTRA_CLASSES)
    return scene, caption(rng, scene)


def category_id(name: str) -> int:
    """COCO's category id of one of the mini world's classes."""
    return CATEGORY_IDS[coco.CLASSES.index(COCO_NAMES.get(name, name))]


def annotation(thing: Thing) -> dict:
    """COCO's annotation of the visible part of a thing, as run lengths."""
    rows, columns = np.nonzero(thing.mask)
    corner = (int(columns.min()), int(rows.min()))
    size = (int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1)
    return {
        "category_id": category_id(thing.name),
        "segmentation": {"size": list(thing.mask.shape), "counts": run_lengths(thing.mask)},
        "area": int(thing.mask.sum()),
        "bbox": [*corner, *size],
        "iscrowd": 0,
    }


def run_lengths(mask: np.ndarray) -> list[int]:
    """Run lengths of a mask [H, W] bool in column-major order, starting with zeros."""
    flat = np.concatenate([[False], mask.T.ravel()])
    ends = np.append(np.flatnonzero(flat[1:] != flat[:-1]), mask.size)
    return np.diff(ends, prepend=0).tolist()


def write_coco(root: Path, seed: int) -> None:
    """Write photos, instances, captions and masks of all splits to `root`."""
    categories = [
        {"id": number, "name": name, "supercategory": "thing"}
        for number, name in zip(CATEGORY_IDS, coco.CLASSES, strict=True)
    ]
    for split, (stream, count, name) in COCO_SPLITS.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        images: list[dict] = []
        instances: list[dict] = []
        captions: list[dict] = []
        for index in range(count):
            scene, words = coco_scene(seed, split, index)
            number = 100_000 * stream + index
            file = f"COCO_{name}_{number:012d}.jpg"
            Image.fromarray(scene.image).save(root / name / file, quality=95, subsampling=0)
            coco.DATASET.mask_path(root, Path(file).stem).unlink(missing_ok=True)
            height, width = scene.image.shape[:2]
            images.append({"id": number, "file_name": file, "height": height, "width": width})
            for thing in scene.things:
                instances.append(
                    {"id": len(instances) + 1, "image_id": number, **annotation(thing)}
                )
            captions.append({"id": index + 1, "image_id": number, "caption": words})
        folder = root / "annotations"
        write_json(
            folder / f"instances_{name}.json",
            {"images": images, "annotations": instances, "categories": categories},
        )
        write_json(folder / f"captions_{name}.json", {"images": images, "annotations": captions})
        coco_masks.build_masks(root, name)
