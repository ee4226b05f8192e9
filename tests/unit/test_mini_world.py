"""The mini world's fixed difficulty, its determinism, and what is held out of the training."""

import hashlib

import numpy as np
import pytest

from attnseg.datasets.cityscapes import CLASSES as STREET_CLASSES
from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.datasets.voc import DATASET as voc
from attnseg.mini.world import captions, scenes, splits, training
from attnseg.mini.world.vocabulary import COCO_EXTRA_CLASSES, HELD_OUT_MUGS, TYPICAL


@pytest.fixture(scope="module")
def sample() -> list[scenes.Scene]:
    return [splits.voc_scene(0, "trainaug", i) for i in range(1000)]


def test_half_of_the_scenes_hold_several_classes(sample):
    assert np.mean([len(scene.classes()) > 1 for scene in sample]) >= 0.5


def test_the_median_object_covers_4_to_20_per_cent(sample):
    areas = [thing.mask.mean() for scene in sample for thing in scene.things]
    assert 0.04 <= np.median(areas) <= 0.20


def test_in_a_third_of_the_scenes_a_tenth_of_an_object_is_hidden(sample):
    assert np.mean([any(t.hidden >= 0.1 for t in scene.things) for scene in sample]) >= 1 / 3


@pytest.mark.parametrize("name", ["boat", "train", "aeroplane", "cow"])
def test_co_occurring_backgrounds(sample, name):
    mine = [scene for scene in sample if name in scene.classes()]
    typical = set(TYPICAL[name][0])
    assert np.mean([bool(typical & set(scene.behind)) for scene in mine]) >= 0.7


def test_mean_colour_names_fewer_than_half_of_the_objects(sample):
    colours, names = [], []
    for scene in sample:
        for thing in scene.things:
            colours.append(scene.image[thing.mask].mean(0))
            names.append(thing.name)
    colours, names = np.array(colours), np.array(names)
    half = len(names) // 2
    means = np.stack([colours[:half][names[:half] == name].mean(0) for name in VOC_CLASSES])
    nearest = ((colours[half:, None] - means) ** 2).sum(-1).argmin(1)
    assert np.mean(np.array(VOC_CLASSES)[nearest] == names[half:]) < 0.5


def test_masks_are_disjoint_and_labels_agree_with_them(sample):
    for scene in sample[:50]:
        assert sum(thing.mask.astype(int) for thing in scene.things).max(initial=0) <= 1
        labels = scene.labels(VOC_CLASSES)
        present = {VOC_CLASSES[n - 1] for n in np.unique(labels) if n}
        assert present == set(scene.classes())


def test_the_same_seed_gives_the_same_bytes_and_another_does_not():
    def digest(seed: int) -> str:
        images = [splits.voc_scene(seed, "val", i).image for i in range(5)]
        return hashlib.sha256(np.stack(images).tobytes()).hexdigest()

    assert digest(0) == digest(0) != digest(1)


def test_train_is_the_head_of_trainaug_and_the_other_splits_are_apart():
    assert splits.voc_id("train", 7) == splits.voc_id("trainaug", 7)
    ids = {
        split: {splits.voc_id(split, i) for i in range(n)}
        for split, (_, n) in splits.VOC_SPLITS.items()
    }
    for a in ("dev", "trainaug", "val", "test"):
        for b in ("dev", "trainaug", "val", "test"):
            assert a == b or not ids[a] & ids[b]
    streams = {stream for stream, _ in splits.VOC_SPLITS.values()}
    assert training.TRAINING_STREAM not in streams


def test_training_never_draws_a_held_out_mug():
    held_out = {(pattern, colour) for pattern, colour, _ in HELD_OUT_MUGS}
    assert len(HELD_OUT_MUGS) == len(set(HELD_OUT_MUGS)) == 19
    rng = np.random.default_rng(0)
    drawn = {
        (thing.traits["pattern"], thing.traits["colour"])
        for _ in range(200)
        for thing in scenes.mug_scene(rng).things
    }
    assert not drawn & held_out and len(drawn) > 15


def test_every_pixel_of_a_street_has_a_class():
    rng = np.random.default_rng(0)
    for style in ("ordinary", "dusk"):
        labels = scenes.street_labels(scenes.street_scene(rng, style))
        assert labels.max() < len(STREET_CLASSES)
        assert np.mean(labels < len(STREET_CLASSES)) > 0.99


def test_captions_name_what_is_there():
    rng = np.random.default_rng(0)
    scene = scenes.object_scene(rng, ("dog",), kinds=1)
    texts = {captions.caption(rng, scene) for _ in range(40)}
    assert all("dog" in text or "puppy" in text for text in texts)
    assert any(text.startswith("a photo including") for text in texts)


def test_training_covers_every_class_of_every_layout():
    rng = np.random.default_rng(0)
    classes = VOC_CLASSES + COCO_EXTRA_CLASSES
    seen = {name for _ in range(900) for name in scenes.object_scene(rng, classes).classes()}
    assert seen == set(classes)


def test_the_written_voc_reads_back(tmp_path, monkeypatch):
    from attnseg.mini.world import voc_layout

    small = {"trainaug": (2, 6), "train": (2, 3)}
    monkeypatch.setattr(voc_layout, "VOC_SPLITS", small)
    voc_layout.write_voc(tmp_path, seed=0)
    assert voc.read_split(tmp_path, "train") == voc.read_split(tmp_path, "trainaug")[:3]
    for i, image_id in enumerate(voc.read_split(tmp_path, "trainaug")):
        scene = splits.voc_scene(0, "trainaug", i)
        np.testing.assert_array_equal(
            read_mask(voc.mask_path(tmp_path, image_id)), scene.labels(VOC_CLASSES)
        )
        difference = read_image(voc.image_path(tmp_path, image_id)).astype(int) - scene.image
        assert np.abs(difference).mean() < 6  # JPEG
        assert set(voc.labels(tmp_path, image_id)) == set(scene.classes())
        assert voc.labels(tmp_path, image_id, "mask") == voc.labels(tmp_path, image_id)
