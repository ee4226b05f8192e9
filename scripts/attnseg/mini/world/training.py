"""The scenes and captions on which the miniature Stable Diffusion is trained."""

import numpy as np

from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.io.processes import results
from attnseg.mini.world import scenes
from attnseg.mini.world.captions import caption, street_caption
from attnseg.mini.world.vocabulary import COCO_EXTRA_CLASSES

# fraction of each kind of scene
MIXTURE = {"voc": 0.52, "coco": 0.18, "single": 0.06, "mug": 0.13, "street": 0.11}
CAPTIONS_PER_SCENE = 4
TRAINING_STREAM = 1_000_000  # differs from the random streams of all splits


def training_scene(seed: int, index: int) -> tuple[np.ndarray, list[str]]:
    """Scene number `index`: image [64, 64, 3] uint8 and captions."""
    rng = np.random.default_rng([seed, TRAINING_STREAM, index])
    kind = str(rng.choice(list(MIXTURE), p=list(MIXTURE.values())))
    words = caption
    if kind == "voc":
        scene = scenes.object_scene(rng, VOC_CLASSES)
    elif kind == "coco":
        scene = scenes.object_scene(rng, VOC_CLASSES + COCO_EXTRA_CLASSES)
    elif kind == "single":
        scene = scenes.object_scene(rng, VOC_CLASSES + COCO_EXTRA_CLASSES, kinds=1)
    elif kind == "mug":
        scene = scenes.mug_scene(rng)
    else:
        scene = scenes.street_scene(rng)
        words = street_caption if rng.random() < 0.7 else caption
    return scene.image, [words(rng, scene) for _ in range(CAPTIONS_PER_SCENE)]


def _numbered(arguments: tuple[int, int]) -> tuple[np.ndarray, list[str]]:
    return training_scene(*arguments)


def training_scenes(seed: int, count: int, processes: int) -> tuple[np.ndarray, list[list[str]]]:
    """Images [count, 64, 64, 3] uint8, and the captions of each."""
    images = np.empty((count, scenes.SIDE, scenes.SIDE, 3), np.uint8)
    captions = []
    jobs = ((seed, i) for i in range(count))
    done = results(_numbered, jobs, processes, "fork", chunk=64)
    for i, (image, texts) in enumerate(done):
        images[i] = image
        captions.append(texts)
    return images, captions
