"""Semantic masks of real COCO annotations, against a rasterisation by other means."""

from pathlib import Path

import numpy as np
import pytest
from skimage.draw import polygon2mask

from attnseg.datasets import coco, voc_aug

SHARED = Path(__file__).parents[3] / "shared" / "data"
COCO = SHARED / "coco"
TRAIN_AUG = SHARED / "VOCdevkit" / "VOC2012" / "official_lists" / "train_aug.txt"

pytestmark = pytest.mark.data
needs_coco = pytest.mark.skipif(not COCO.is_dir(), reason=f"no sample of COCO in {COCO}")


@pytest.fixture(scope="module")
def content():
    return coco.read_annotations(COCO, "val")


def decoded(counts, height, width):
    """COCO's uncompressed runs, one by one in column order."""
    flat = np.zeros(height * width, bool)
    at, value = 0, False
    for count in counts:
        flat[at : at + count] = value
        at, value = at + count, not value
    return flat.reshape(width, height).T


@needs_coco
def test_every_split_of_the_sample_is_read():
    for split, count in (("train", 60), ("val2017", 30)):
        ids = coco.read_split(COCO, split)
        assert len(ids) == count and ids == sorted(ids)
        for i in ids:
            assert coco.image_path(COCO, i).is_file()
            assert coco.labels(COCO, i)
    assert len(coco.captions(COCO, "val")) == 30


@needs_coco
def test_polygons_agree_with_another_rasteriser_but_for_their_borders(content):
    numbers = coco.class_numbers(content["categories"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    compared = 0
    for annotation in content["annotations"]:
        if annotation["iscrowd"] or annotation["area"] < 2500:
            continue
        size = sizes[annotation["image_id"]]
        ours = coco.rasterise([annotation], *size, numbers) > 0
        other = np.zeros(size, bool)
        for outline in annotation["segmentation"]:
            other |= polygon2mask(size, np.reshape(outline, (-1, 2))[:, ::-1])
        assert (ours & other).sum() / (ours | other).sum() > 0.9
        compared += 1
    assert compared > 30


@needs_coco
def test_crowds_agree_with_their_runs_exactly(content):
    numbers = coco.class_numbers(content["categories"])
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    crowds = [a for a in content["annotations"] if a["iscrowd"]]
    assert crowds
    for annotation in crowds:
        size = sizes[annotation["image_id"]]
        mask = coco.rasterise([annotation], *size, numbers)
        expected = decoded(annotation["segmentation"]["counts"], *size)
        assert ((mask > 0) == expected).all()


@needs_coco
def test_classes_of_the_masks_are_those_annotated(content):
    numbers = coco.class_numbers(content["categories"])
    for image in content["images"]:
        mine = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        mask = coco.rasterise(mine, image["height"], image["width"], numbers)
        annotated = coco.labels(COCO, Path(image["file_name"]).stem)
        drawn = [coco.CLASSES[n - 1] for n in np.unique(mask) if n]
        assert set(drawn) <= set(annotated)  # a class can be covered by smaller instances
        assert len(drawn) >= len(annotated) - 2


@pytest.mark.skipif(not TRAIN_AUG.is_file(), reason=f"no official list at {TRAIN_AUG}")
def test_the_ids_that_the_aug_builder_accepts_are_the_official_ones():
    ids = TRAIN_AUG.read_text().split()
    assert len(ids) == voc_aug.TRAINAUG
    assert voc_aug.ids_hash(ids) == voc_aug.TRAINAUG_SHA256
