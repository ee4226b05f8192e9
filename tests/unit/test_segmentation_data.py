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
from attnseg.segmentation.data import Pairs, listed_pairs


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


NAMES = ["background", "dog", "cat"]


@pytest.fixture
def training(tmp_path):
    """Two photos, 4 x 6 pixels, and their masks."""
    masks = {"a": np.full((4, 6), 1, np.uint8), "b": np.full((4, 6), 255, np.uint8)}
    for name, mask in masks.items():
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.jpg")
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    files = [[tmp_path / f"{name}{suffix}" for name in masks] for suffix in (".jpg", ".png")]
    return Pairs(list(masks), *files)


def test_right_masks_are_trained_on(training):
    training.check_masks(NAMES)
    training.check_masks(["road", "dog"])  # without background


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        (np.full((4, 6), 3, np.uint8), "class number 3: there are 0 to 2"),
        (np.full((2, 3), 1, np.uint8), "the mask is 3x2 pixels and its photo 6x4"),
        (np.full((4, 6, 3), 1, np.uint8), "must be a palette or grey PNG, not RGB"),
        (np.full((4, 6), 1, bool), "must be a palette or grey PNG, not 1"),
    ],
    ids=["number", "half size", "three channels", "one bit"],
)
def test_a_wrong_mask_is_refused_by_name(mask, said, training):
    Image.fromarray(mask).save(training.masks[1])
    with pytest.raises(UserError, match=f"b.png: .*{said}|b.png: {said}"):
        training.check_masks(NAMES, threads=2)


def test_masks_of_nothing_but_background_are_refused(training):
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(training.masks[0])
    with pytest.raises(UserError, match="no mask has a class"):
        training.check_masks(NAMES)
    training.check_masks(["road", "dog"])  # 0 is a class there


def test_masks_fit_photos_as_they_are_turned(training):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 6)).save(training.photos[1], exif=exif)  # shown as 6 x 4
    with pytest.raises(UserError, match="b.png"):
        training.check_masks(NAMES)
    Pairs(training.ids, training.photos, training.masks, turned=True).check_masks(NAMES)


@pytest.mark.parametrize("turn", [False, True])
def test_training_reads_photos_as_everything_else_does(turn, tmp_path):
    from mmseg.registry import TRANSFORMS

    from attnseg.datasets.images import read_image
    from attnseg.segmentation import loading  # noqa: F401  registers it

    exif = Image.Exif()
    exif[0x0112] = 3
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    read = TRANSFORMS.build({"type": "LoadPhoto", "turn": turn})({"img_path": tmp_path / "a.png"})
    assert np.array_equal(read["img"][..., ::-1], pixels[::-1, ::-1] if turn else pixels)
    assert np.array_equal(read["img"][..., ::-1], read_image(tmp_path / "a.png", turn))
