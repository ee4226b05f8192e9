"""ImageNet-S and Cityscapes on disk, official and mini."""

import hashlib

import numpy as np
import pytest
from PIL import Image

from attnseg.datasets import imagenet_s as imagenet_s_module
from attnseg.datasets.cityscapes import DATASET as cityscapes
from attnseg.datasets.imagenet_s import DATASET as imagenet_s
from attnseg.datasets.images import read_image
from attnseg.errors import UserError
from attnseg.mini.world import cityscapes_layout, imagenet_s_layout
from attnseg.mini.world.scenes import STREET_PALETTES, street_labels


@pytest.fixture(scope="module")
def minis(tmp_path_factory):
    """Both layouts with a few scenes, written twice."""
    patch = pytest.MonkeyPatch()
    patch.setattr(
        imagenet_s_layout, "IMAGENET_S_SPLITS", {"train-semi": (11, 4), "validation": (12, 12)}
    )
    patch.setattr(
        cityscapes_layout,
        "CITYSCAPES_SPLITS",
        {"train": (21, 4, "dawnville"), "val": (22, 6, "duskburg")},
    )
    roots = [tmp_path_factory.mktemp("minis") for _ in range(2)]
    for root in roots:
        imagenet_s_layout.write_imagenet_s(root / "imagenet_s", 0)
        cityscapes_layout.write_cityscapes(root / "cityscapes", 0)
    yield roots
    patch.undo()


def digests(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_same_seed_writes_the_same_bytes(minis):
    first, second = map(digests, minis)
    assert first == second and len(first) == 2 + 2 * 16 + 2 * 10


def test_imagenet_s_masks_are_the_images_own_class_against_the_rest(minis):
    root = minis[0] / "imagenet_s"
    ids = imagenet_s.read_split(root, "validation")
    assert len(ids) == 12
    for index, image_id in enumerate(sorted(ids, key=lambda i: i.rsplit("_", 1)[1])):
        name, scene = imagenet_s_layout.imagenet_s_scene(0, "validation", index)
        assert image_id.startswith(imagenet_s_layout.wnid_of(name) + "/")
        expected = np.zeros((64, 64), bool)
        for thing in scene.things:
            expected |= thing.mask
        assert (imagenet_s.read_truth(root, image_id) == expected).all()
        assert read_image(imagenet_s.image_path(root, image_id)).shape == (64, 64, 3)


def test_imagenet_s_names_are_the_categories_synonyms(minis):
    names = imagenet_s_module.synonyms(minis[0] / "imagenet_s")
    assert len(names) == 40
    assert names["n90000001"] == ("aeroplane", "airplane", "plane")


def test_official_masks_hold_numbers_over_255_and_ignored_pixels(tmp_path):
    numbers = np.array([[0, 700, 1000], [300, 700, 5]])
    imagenet_s_module.write_official_mask(tmp_path / "mask.png", numbers)
    pixels = np.asarray(Image.open(tmp_path / "mask.png")).astype(int)
    assert (pixels[..., 0] + 256 * pixels[..., 1] == numbers).all()
    assert imagenet_s_module.own_class_mask(numbers, 700).tolist() == [[0, 1, 255], [0, 1, 0]]


def test_the_official_lists_are_read(real_data):
    wnids = imagenet_s_module.wnids(real_data / "imagenet-s")
    assert len(wnids) == 50 and wnids[0] == "n01443537"


def test_missing_lists_names_and_masks_are_one_line(tmp_path):
    with pytest.raises(UserError, match="0 lists named"):
        imagenet_s_module.wnids(tmp_path)
    with pytest.raises(UserError, match="no files .* of split 'validation'"):
        imagenet_s.read_split(tmp_path, "validation")
    with pytest.raises(UserError, match=r"no files .*_leftImg8bit.png of split 'val'"):
        cityscapes.read_split(tmp_path, "val")


def test_cityscapes_masks_are_the_scenes_train_ids(minis):
    root = minis[0] / "cityscapes"
    ids = cityscapes.read_split(root, "val")
    assert ids[0] == "duskburg_000000_000019" and len(ids) == 6
    for index, image_id in enumerate(ids):
        scene = cityscapes_layout.cityscapes_scene(0, "val", index)
        assert (cityscapes.read_truth(root, image_id) == street_labels(scene)).all()
        photo = read_image(cityscapes.image_path(root, image_id))
        assert (photo == scene.image).all()


def test_cityscapes_train_ids_are_the_official_ones(tmp_path):
    folder = tmp_path / "gtFine" / "val" / "aachen"
    folder.mkdir(parents=True)
    Image.fromarray(np.arange(34, dtype=np.uint8)[None]).save(
        folder / "aachen_0_gtFine_labelIds.png"
    )
    found = cityscapes.read_truth(tmp_path, "aachen_0")[0]
    assert {int(i): int(found[i]) for i in range(34) if found[i] != 255} == {
        7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11,
        25: 12, 26: 13, 27: 14, 28: 15, 31: 16, 32: 17, 33: 18,
    }  # fmt: skip


def test_the_street_scenes_have_the_style_held_out_of_the_training(minis):
    """The sky is nearer to dusk's than to the ordinary one."""
    root = minis[0] / "cityscapes"
    for image_id in cityscapes.read_split(root, "val"):
        photo = read_image(cityscapes.image_path(root, image_id))
        sky = photo[cityscapes.read_truth(root, image_id) == 10].mean(0)
        far, near = (
            np.abs(sky - STREET_PALETTES[style]["sky"]).mean() for style in ("ordinary", "dusk")
        )
        assert near < far


def test_splits_share_no_scene(minis):
    root = minis[0] / "cityscapes" / "leftImg8bit"
    photos = [path.read_bytes() for path in root.rglob("*.png")]
    assert len(set(photos)) == len(photos) == 10


def test_real_frames_are_read(real_data):
    root = real_data / "cityscapes"
    assert len(cityscapes.read_split(root, "train")) == 4
    image_id = cityscapes.read_split(root, "val")[0]
    truth = cityscapes.read_truth(root, image_id)
    assert truth.shape == read_image(cityscapes.image_path(root, image_id)).shape[:2]
    assert set(np.unique(truth)) <= {*range(19), 255}
    assert (truth == 0).mean() > 0.1  # road
