"""Write mini ImageNet-S: scenes of one class, in ImageNet-S's layout."""

from pathlib import Path

import numpy as np
from PIL import Image

from attnseg.datasets.imagenet_s import write_official_mask
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.mini.world.scenes import Scene, object_scene
from attnseg.mini.world.vocabulary import COCO_EXTRA_CLASSES, WORDS

# split -> (random stream, scenes)
IMAGENET_S_SPLITS = {"train-semi": (11, 150), "validation": (12, 200)}
IMAGENET_S_CLASSES = VOC_CLASSES + COCO_EXTRA_CLASSES


def wnid_of(name: str) -> str:
    """A fictitious wnid; none of ImageNet's starts with n9."""
    return f"n9{IMAGENET_S_CLASSES.index(name) + 1:07d}"


def imagenet_s_scene(seed: int, split: str, index: int) -> tuple[str, Scene]:
    """Class and scene number `index` of a split; classes take turns."""
    stream, count = IMAGENET_S_SPLITS[split]
    if not 0 <= index < count:
        raise IndexError(f"{split} has {count} scenes, there is no scene {index}")
    name = IMAGENET_S_CLASSES[index % len(IMAGENET_S_CLASSES)]
    return name, object_scene(np.random.default_rng([seed, stream, index]), (name,), kinds=1)


def write_imagenet_s(root: Path, seed: int) -> None:
    """Write lists, photos and masks of all splits to `root`."""
    root.mkdir(parents=True, exist_ok=True)
    categories = [wnid_of(name) for name in IMAGENET_S_CLASSES]
    (root / f"ImageNetS_categories_im{len(categories)}.txt").write_text(
        "\n".join(categories) + "\n"
    )
    lines = [
        f"{wnid_of(name)} {', '.join(WORDS.get(name, (name,)))}" for name in IMAGENET_S_CLASSES
    ]
    (root / "LOC_synset_mapping.txt").write_text("\n".join(lines) + "\n")
    for split, (_, count) in IMAGENET_S_SPLITS.items():
        for index in range(count):
            name, scene = imagenet_s_scene(seed, split, index)
            place = f"{wnid_of(name)}/MINI_{split}_{index:08d}"
            photo = root / split / f"{place}.JPEG"
            photo.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(scene.image).save(photo, "JPEG", quality=95, subsampling=0)
            numbers = scene.labels(IMAGENET_S_CLASSES)
            write_official_mask(root / f"{split}-segmentation" / f"{place}.png", numbers)
