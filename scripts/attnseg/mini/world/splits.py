"""The splits of mini VOC, their scenes and image ids."""

import numpy as np

from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.mini.world.scenes import Scene, object_scene

# split -> (random stream, scenes); train is the first part of trainaug
VOC_SPLITS = {
    "dev": (1, 200),
    "trainaug": (2, 1000),
    "train": (2, 400),
    "val": (3, 200),
    "test": (4, 200),
}


def voc_scene(seed: int, split: str, index: int) -> Scene:
    """Scene number `index` of a split of mini VOC."""
    stream, count = VOC_SPLITS[split]
    if not 0 <= index < count:
        raise IndexError(f"{split} has {count} scenes, there is no scene {index}")
    return object_scene(np.random.default_rng([seed, stream, index]), VOC_CLASSES)


def voc_id(split: str, index: int) -> str:
    """Image id in VOC 2012's form; the scenes of train have the same ids in trainaug."""
    return f"2012_{VOC_SPLITS[split][0]:01d}{index:05d}"
