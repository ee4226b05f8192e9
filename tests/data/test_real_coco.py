"""Semantic masks of real COCO annotations, against a rasterisation by other means."""

from pathlib import Path

import numpy as np
import pytest
from skimage.draw import polygon2mask

from attnseg.datasets import coco as coco_module
from attnseg.datasets import coco_masks, voc_aug
from attnseg.datasets.coco import DATASET as coco

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def real_coco(real_data) -> Path:
    return real_data / "coco"


@pytest.fixture(scope="module")
def content(real_coco):
    return coco_module.read_annotations(real_coco, "val")


def decoded(counts, height, width):
    """COCO's uncompressed runs, one by one in column order."""
    flat = np.zeros(height * width, bool)
    at, value = 0, False
    for count in counts:
        flat[at : at + count] = value
        at, value = at + count, not value
    return flat.reshape(width, height).T


def test_every_split_of_the_sample_is_read(real_coco):
    for split, count in (("train", 60), ("val2017", 30)):
        ids = coco.read_split(real_coco, split)
        assert len(ids) == count and ids == sorted(ids)
        for i in ids:
            assert coco.image_path(real_coco, i).is_file()
            assert coco.labels(real_coco, i)


def test_polygons_agree_with_another_rasteriser_but_for_their_borders(content):
    numbers = coco_module.class_numbers(content["categories"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    compared = 0
    for annotation in content["annotations"]:
        if annotation["iscrowd"] or annotation["area"] < 2500:
            continue
        size = sizes[annotation["image_id"]]
        ours = coco_masks.rasterise([annotation], *size, numbers) > 0
        other = np.zeros(size, bool)
        for outline in annotation["segmentation"]:
            other |= polygon2mask(size, np.reshape(outline, (-1, 2))[:, ::-1])
        assert (ours & other).sum() / (ours | other).sum() > 0.9
        compared += 1
    assert compared > 30


def test_runs_are_drawn_exactly_and_crowds_are_not(content):
    numbers = coco_module.class_numbers(content["categories"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    crowds = [a for a in content["annotations"] if a["iscrowd"]]
    assert crowds
    for annotation in crowds:
        size = sizes[annotation["image_id"]]
        assert not coco_masks.rasterise([annotation], *size, numbers).any()
        mask = coco_masks.rasterise([annotation | {"iscrowd": 0}], *size, numbers)
        expected = decoded(annotation["segmentation"]["counts"], *size)
        assert ((mask > 0) == expected).all()


def test_classes_of_the_masks_are_those_annotated(real_coco, content):
    numbers = coco_module.class_numbers(content["categories"])
    for image in content["images"]:
        mine = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        mask = coco_masks.rasterise(mine, image["height"], image["width"], numbers)
        annotated = coco.labels(real_coco, Path(image["file_name"]).stem)
        drawn = [coco.classes[n - 1] for n in np.unique(mask) if n]
        assert set(drawn) <= set(annotated)  # a class can be covered by later instances
        assert len(drawn) >= len(annotated) - 2


def test_the_ids_that_the_aug_builder_accepts_are_the_official_ones(real_voc):
    ids = (real_voc / "official_lists" / "train_aug.txt").read_text().split()
    assert len(ids) == voc_aug.TRAINAUG
    assert voc_aug.ids_hash(ids) == voc_aug.TRAINAUG_SHA256
