"""The splits of mini VOC: which scene each image id stands for."""

import numpy as np

from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.mini.world.scenes import Scene, object_scene

# split -> (stream of random numbers, scenes). train is the head of trainaug.
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
        raise IndexError(f"{split} has {count} scenes, no number {index}")
    return object_scene(np.random.default_rng([seed, stream, index]), VOC_CLASSES)


def voc_id(split: str, index: int) -> str:
    """The image id, in the form of VOC 2012's; scenes of train keep theirs in trainaug."""
    return f"2012_{VOC_SPLITS[split][0]:01d}{index:05d}"
