"""Write mini Cityscapes: street scenes at dusk, a style that the mini model was not trained on."""

from pathlib import Path

import numpy as np
from PIL import Image

from attnseg.datasets.cityscapes import DATASET, LABEL_IDS
from attnseg.mini.world.scenes import Scene, street_labels, street_scene

# split -> (random stream, scenes, city); the scenes of train are LoRA's unlabelled images
CITYSCAPES_SPLITS = {"train": (21, 200, "dawnville"), "val": (22, 200, "duskburg")}


def cityscapes_scene(seed: int, split: str, index: int) -> Scene:
    """Scene number `index` of a split."""
    stream, count, _ = CITYSCAPES_SPLITS[split]
    if not 0 <= index < count:
        raise IndexError(f"{split} has {count} scenes, there is no scene {index}")
    return street_scene(np.random.default_rng([seed, stream, index]), "dusk")


def write_cityscapes(root: Path, seed: int) -> None:
    """Write photos and official label ids of all splits to `root`."""
    official = np.zeros(256, np.uint8)  # 0 is "unlabeled"
    official[: len(LABEL_IDS)] = LABEL_IDS
    official[DATASET.ignored] = 0
    for split, (_, count, city) in CITYSCAPES_SPLITS.items():
        folders = {kind: root / kind / split / city for kind in ("leftImg8bit", "gtFine")}
        for folder in folders.values():
            folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            scene = cityscapes_scene(seed, split, index)
            name = f"{city}_{index:06d}_000019"
            photo = folders["leftImg8bit"] / f"{name}_leftImg8bit.png"
            Image.fromarray(scene.image).save(photo)
            labels = Image.fromarray(official[street_labels(scene)])
            labels.save(folders["gtFine"] / f"{name}_gtFine_labelIds.png")
