"""A tiny segmentor and what it is trained on in seconds: six photos, in VOC's layout."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.datasets.images import PALETTE, write_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.segmentation import hooks
from attnseg.segmentation.data import Pairs
from attnseg.segmentation.train import runner_options
from attnseg.settings import Segmentor

CLASSES = ["background", *voc.classes]
TINY = {
    "backbone": "resnet18",
    "width": 8,
    "stem": "small",
    "output_stride": 8,
    "rates": [1, 2],
    "crop": 32,
    "batch": 2,
    "iterations": 8,
    "lr": 0.05,
    "loss_scales": [1.0],
    "photometric": True,
    "workers": 0,
    "checkpoint_interval": 3,
}


def write_voc(root: Path) -> None:
    """A VOC2012 of six photos: a red square (class 1) or a blue one (class 2) on grey.

    Its reliability maps, in reliable/, are 1 on the squares.
    """
    generator = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation", "reliable"):
        (root / folder).mkdir(parents=True)
    ids = [f"2012_{i:06d}" for i in range(6)]
    for i, image_id in enumerate(ids):
        height, width = 40 + 2 * i, 36
        photo = np.full((height, width, 3), 128, np.uint8)
        mask = np.zeros((height, width), np.uint8)
        y, x = generator.integers(2, 16, 2)
        photo[y : y + 18, x : x + 18] = (230, 20, 20) if i % 2 else (20, 20, 230)
        mask[y : y + 18, x : x + 18] = 1 if i % 2 else 2
        Image.fromarray(photo).save(voc.image_path(root, image_id), quality=100, subsampling=0)
        write_mask(voc.mask_path(root, image_id), mask, PALETTE)
        Image.fromarray((mask > 0).astype(np.uint8)).save(root / "reliable" / f"{image_id}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids))


def training_data(settings: Segmentor, pairs: Pairs):
    """mmseg's data set of a training: [photo, place in the training] -> sample."""
    from mmseg.registry import DATASETS

    options = runner_options(settings, pairs, CLASSES, Path("unused"), "cpu", None)
    data = options["train_dataloader"]["dataset"]
    return DATASETS.build(data, default_args={"_scope_": "mmseg"})


@contextmanager
def interrupted(iteration: int) -> Iterator[None]:
    """A training in it is interrupted before this iteration (the first is 0), as by Ctrl+C."""
    step = hooks.SeedEachIteration.before_train_iter

    def stop(self, runner, batch_idx, data_batch=None):
        if batch_idx == iteration:
            raise KeyboardInterrupt
        step(self, runner, batch_idx, data_batch)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(hooks.SeedEachIteration, "before_train_iter", stop)
        yield
