"""How photos and masks are read, put in order, resized and cropped; registered under the class names."""

import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import cv2
import mmcv
import mmseg.datasets.transforms  # noqa: F401  registers mmseg's transforms
import numpy as np
from mmcv.transforms import BaseTransform, Resize
from mmengine.dataset import InfiniteSampler
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATA_SAMPLERS, DATASETS, TRANSFORMS

from attnseg.datasets.images import read_image


@DATASETS.register_module()
class PhotosAndMasks(BaseSegDataset):
    """Photos and masks given as paths: (photo, mask) or (photo, mask, reliability map).

    With `NumberedSampler`, each index comes with its position in the training, which seeds the
    augmentations, so that they depend neither on the workers nor on interruptions.
    """

    def __init__(self, pairs: Sequence[tuple[str, ...]], seed: int = 0, **kwargs: Any):
        self.pairs = pairs
        self.seed = seed
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [
            {
                "img_path": photo,
                "seg_map_path": mask,
                "reliability_path": reliability[0] if reliability else None,
                "label_map": None,
                "reduce_zero_label": False,
                "seg_fields": [],
            }
            for photo, mask, *reliability in self.pairs
        ]

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        if isinstance(index, tuple):
            index, place = index
            state = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
            np.random.seed(state)
            random.seed(state)
        return super().__getitem__(index)


def bounds(short_side: int) -> tuple[int, int]:
    """Most pixels of the long and the short side, as mmseg writes them: 512 -> (2048, 512)."""
    return 4 * short_side, short_side


def resized(size: Sequence[int], short_side: int | None) -> Sequence[int]:
    """Height and width of a photo within `bounds`; its own without a short side."""
    if short_side is None:
        return size
    width, height = mmcv.rescale_size((size[1], size[0]), bounds(short_side))
    return height, width


@DATA_SAMPLERS.register_module()
class NumberedSampler(InfiniteSampler):
    """Yield (index, position in the sequence) in endless shuffled passes."""

    def _infinite_indices(self) -> Iterator[tuple[int, int]]:
        return ((index, place) for place, index in enumerate(super()._infinite_indices()))


@TRANSFORMS.register_module()
class LoadPhoto(BaseTransform):
    """Read the photo as everything else here does, with `turn` upright by its EXIF orientation.

    mmcv's own reader turns photos whose masks lie as they are stored.
    """

    def __init__(self, turn: bool = False):
        self.turn = turn

    def transform(self, results: dict) -> dict:
        photo = read_image(results["img_path"], self.turn)
        results["img"] = np.ascontiguousarray(photo[..., ::-1])  # BGR, as mmcv's
        results["img_shape"] = results["ori_shape"] = photo.shape[:2]
        return results


@TRANSFORMS.register_module()
class ResizeByOneOf(Resize):
    """Resize photo and mask by one of `factors`, drawn anew each time.

    short_side: the factor is of the size with this short side, at once, as mmseg's RandomResize.
    continuous: draw the factor between the smallest and the largest instead.
    """

    def __init__(
        self, factors: Sequence[float], short_side: int | None = None, continuous: bool = False
    ):
        super().__init__(scale_factor=1.0, keep_ratio=True)
        self.factors = list(factors)
        self.short_side = short_side
        self.continuous = continuous

    def transform(self, results: dict) -> dict:
        if self.continuous:
            factor = np.random.uniform(min(self.factors), max(self.factors))
        else:
            factor = float(np.random.choice(self.factors))
        self.scale_factor = (factor, factor)
        if self.short_side is not None:
            long, short = bounds(self.short_side)
            self.scale = (int(long * factor), int(short * factor))
        return super().transform(results)

    def _resize_seg(self, results: dict) -> None:
        # mmcv's INTER_NEAREST would shift labels by up to half a pixel against the photo
        size = results["img"].shape[1::-1]
        for key in results["seg_fields"]:
            results[key] = cv2.resize(results[key], size, interpolation=cv2.INTER_NEAREST_EXACT)


@TRANSFORMS.register_module()
class CropByArea(BaseTransform):
    """Crop a share of the area within `area`, at an aspect ratio of 3/4 to 4/3, and resize it to a square.

    Torchvision's RandomResizedCrop of photo and mask; what fits in none of ten trials is cut to fit.
    """

    def __init__(self, area: Sequence[float], size: int):
        self.area, self.size = area, size

    def transform(self, results: dict) -> dict:
        height, width = results["img"].shape[:2]
        for _ in range(10):
            pixels = np.random.uniform(self.area[0], self.area[1]) * height * width
            aspect = np.exp(np.random.uniform(math.log(3 / 4), math.log(4 / 3)))
            h, w = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
            if h <= height and w <= width:
                break
        h, w = min(h, height), min(w, width)
        y, x = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
        for key in ("img", *results["seg_fields"]):
            how = cv2.INTER_LINEAR if key == "img" else cv2.INTER_NEAREST_EXACT
            part = results[key][y : y + h, x : x + w]
            results[key] = cv2.resize(part, (self.size, self.size), interpolation=how)
        results["img_shape"] = results["img"].shape[:2]
        return results
