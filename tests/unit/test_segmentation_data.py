"""Data that segmentors are trained and tested on besides VOC: lists of masks, ground truth of other layouts."""

import json

import numpy as np
import pytest
from PIL import Image

import build_mini_world
import write_true_masks
from attnseg.datasets.cityscapes import DATASET as cityscapes
from attnseg.datasets.imagenet_s import DATASET as imagenet_s
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError
from attnseg.segmentation.data import listed_pairs


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    arguments = ["--output", str(folder), "--layouts", "imagenet_s", "cityscapes"]
    assert build_mini_world.main(arguments) == 0
    return folder


def test_a_data_set_s_manifest_counts_its_splits(world):
    counted = {
        name: json.loads((world / f"{name}.json").read_text())["splits"]
        for name in ("imagenet_s", "cityscapes")
    }
    assert counted["imagenet_s"] == {"train-semi": 150, "validation": 200}
    assert counted["cityscapes"] == {"train": 200, "val": 200}
    for name, module in (("imagenet_s", imagenet_s), ("cityscapes", cityscapes)):
        for split, count in counted[name].items():
            assert len(module.read_split(world / name, split)) == count


def test_cityscapes_alone_has_no_background_class():
    assert cityscapes.class_names == list(cityscapes.classes)
    assert imagenet_s.class_names == ["background", "foreground"]
    assert voc.class_names[:2] == ["background", "aeroplane"]


def test_true_masks_are_in_the_segmentor_s_numbers(world):
    street = cityscapes.read_split(world / "cityscapes", "val")[0]
    truth = cityscapes.read_truth(world / "cityscapes", street, (64, 64))
    official = np.asarray(Image.open(cityscapes.mask_path(world / "cityscapes", street)))
    for train_id, label_id in enumerate(cityscapes.mask_values):
        assert ((truth == train_id) == (official == label_id)).all()
    with pytest.raises(UserError, match="64x64 pixels and its photo 32x64"):
        cityscapes.read_truth(world / "cityscapes", street, (64, 32))


def test_written_true_masks_are_foreground_and_background(world, tmp_path):
    root, output = world / "imagenet_s", tmp_path / "truth"
    arguments = ["--dataset", "imagenet_s", "--split", "train-semi"]
    arguments += ["--root", str(root), "--output", str(output)]
    assert write_true_masks.main(arguments) == 0
    ids = [item["id"] for item in json.loads((output / "manifest.json").read_text())["items"]]
    assert ids == imagenet_s.read_split(root, "train-semi")
    for image_id in ids[:5]:
        mask = np.asarray(Image.open(output / f"{image_id}.png"))
        assert set(np.unique(mask)) == {0, 1}
        assert (mask == imagenet_s.read_truth(root, image_id)).all()


def test_voc_s_own_masks_need_no_copy(tmp_path):
    arguments = ["--dataset", "voc", "--root", ".", "--split", "train", "--output", str(tmp_path)]
    with pytest.raises(UserError, match="own masks"):
        write_true_masks.main(arguments)


def test_skipped_images_are_not_trained_on(tmp_path):
    items = [
        {"id": "a", "image": "a.jpg", "skipped": None},
        {"id": "b", "image": "b.jpg", "skipped": "no attention"},
        {"id": "c", "image": "c.jpg", "skipped": None},
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"items": items}))
    classes, pairs = listed_pairs(voc, tmp_path / "images", tmp_path, tmp_path / "reliability")
    assert len(classes) == 21 and pairs.ids == ["a", "c"]
    assert pairs.photos == [tmp_path / "images/a.jpg", tmp_path / "images/c.jpg"]
    assert pairs.masks == [tmp_path / "a.png", tmp_path / "c.png"]
    assert pairs.reliabilities == [tmp_path / "reliability/a.png", tmp_path / "reliability/c.png"]


@pytest.mark.parametrize(
    "content", ["{", "{}", '{"items": [{"id": "a", "image": "a.jpg", "skipped": "no attention"}]}']
)
def test_a_folder_without_usable_masks_is_refused(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(UserError, match=r"manifest\.json: "):
        listed_pairs(voc, tmp_path, tmp_path)
