"""Mini COCO through COCO's own reader."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from attnseg.attn2mask.prompt_sets import read_captions
from attnseg.datasets.coco import DATASET as coco
from attnseg.datasets.coco import read_annotations
from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.mini.world import coco_layout
from attnseg.mini.world.coco_layout import COCO_NAMES, coco_scene, run_lengths, write_coco
from attnseg.mini.world.vocabulary import COCO_EXTRA_CLASSES

MINI = Path(__file__).resolve().parents[2] / "config" / "mini.yaml"
SPLITS = {"train": (31, 12, "train2014"), "val": (32, 3, "val2014")}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_layout, "COCO_SPLITS", SPLITS)
        write_coco(folder, 0)
    return folder


def test_masks_and_labels_are_those_of_the_scenes(root):
    for split, (_, count, name) in SPLITS.items():
        ids = coco.read_split(root, split)
        assert len(ids) == count and all(i.startswith(f"COCO_{name}_0000") for i in ids)
        for index, image_id in enumerate(ids):
            scene, _ = coco_scene(0, split, index)
            expected = np.zeros(scene.image.shape[:2], np.uint8)
            for thing in scene.things:
                expected[thing.mask] = 1 + coco.classes.index(
                    COCO_NAMES.get(thing.name, thing.name)
                )
            assert (read_mask(coco.mask_path(root, image_id)) == expected).all()
            present = {COCO_NAMES.get(name, name) for name in scene.classes()}
            assert set(coco.labels(root, image_id)) == present
            assert set(coco.labels(root, image_id, "mask")) == present
            assert read_image(coco.image_path(root, image_id)).shape == (64, 64, 3)


def test_every_scene_has_a_caption(root):
    captions = read_captions(root / "annotations" / "captions_train2014.json")
    assert len(captions) == 12 and all(captions)


def test_the_categories_are_coco_s_80_with_its_gaps(root):
    categories = read_annotations(root, "val")["categories"]
    numbers = {category["name"]: category["id"] for category in categories}
    assert (numbers["person"], numbers["toothbrush"]) == (1, 90)
    assert (numbers["stop sign"], numbers["hair drier"], len(numbers)) == (13, 89, 80)


def test_every_class_of_the_world_is_one_of_coco_and_they_outnumber_voc_s():
    names = {COCO_NAMES.get(name, name) for name in VOC_CLASSES + COCO_EXTRA_CLASSES}
    assert names <= set(coco.classes) and len(names) == 40 > len(VOC_CLASSES)


def test_the_configuration_counts_the_scenes_and_each_holds_something():
    splits = yaml.safe_load(MINI.read_text())["datasets"]["coco"]["splits"]
    for split, (_, count, _) in coco_layout.COCO_SPLITS.items():
        assert splits[split]["images"] == count
    assert all(coco_scene(0, "val", index)[0].things for index in range(40))


def test_run_lengths_are_pycocotools_own():
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((9, 7)) < rng.uniform(0.05, 0.95)
        mask[0, 0] = rng.random() < 0.5
        code = coco_mask.frPyObjects({"size": [9, 7], "counts": run_lengths(mask)}, 9, 7)
        assert (coco_mask.decode(code).astype(bool) == mask).all()


def test_the_same_seed_gives_the_same_scene():
    first, again = coco_scene(3, "train", 5), coco_scene(3, "train", 5)
    assert (first[0].image == again[0].image).all() and first[1] == again[1]
    with pytest.raises(IndexError, match="val has 200 scenes"):
        coco_scene(0, "val", 200)
