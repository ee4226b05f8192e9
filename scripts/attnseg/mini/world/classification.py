"""Scenes of one thing and its class, for pretraining: the mini scale's stand-in for ImageNet."""

import numpy as np

from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.io.processes import results
from attnseg.mini.world.scenes import SIDE, object_scene
from attnseg.mini.world.vocabulary import COCO_EXTRA_CLASSES

CLASSES = VOC_CLASSES + COCO_EXTRA_CLASSES
STREAM = 2_000_000  # differs from the random streams of all splits and of the model's training


def named_scene(seed: int, index: int) -> tuple[np.ndarray, int]:
    """Scene number `index`: image [64, 64, 3] uint8 and class number; classes take turns."""
    label = index % len(CLASSES)
    rng = np.random.default_rng([seed, STREAM, index])
    return object_scene(rng, (CLASSES[label],), kinds=1).image, label


def _numbered(arguments: tuple[int, int]) -> tuple[np.ndarray, int]:
    return named_scene(*arguments)


def named_scenes(seed: int, count: int, processes: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Images [count, 64, 64, 3] uint8 and classes [count] int64."""
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    labels = np.empty(count, np.int64)
    jobs = ((seed, i) for i in range(count))
    done = results(_numbered, jobs, processes, "fork", chunk=64)
    for i, (image, label) in enumerate(done):
        images[i], labels[i] = image, label
    return images, labels
