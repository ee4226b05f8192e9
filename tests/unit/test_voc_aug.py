"""SegmentationClassAug from hand-made files in SBD's structure."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from scipy.sparse import csc_matrix

import build_voc_aug
from attnseg.datasets import voc_aug
from attnseg.datasets.images import PALETTE, read_mask, write_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError

SHAPE = (12, 16)
VOC_TRAIN, VOC_VAL = ["2007_000001", "2007_000002"], ["2007_000003", "2007_000004"]
# SBD's lists cut across VOC's: its train has an id of VOC's val, its val one of VOC's train.
SBD_TRAIN, SBD_VAL = ["2008_000001", "2007_000003"], ["2008_000002", "2007_000001"]
TRAINAUG = ["2007_000001", "2007_000002", "2008_000001", "2008_000002"]


def sbd_mat(path: Path, mask: np.ndarray) -> None:
    """A file with the fields of SBD's: a struct GTcls of segmentation, boundaries and categories."""
    boundaries = np.empty((20, 1), object)
    for k in range(20):
        boundaries[k, 0] = csc_matrix(SHAPE, dtype=np.uint8)
    categories = np.array([[n] for n in np.unique(mask) if n], np.uint8)
    content = {"Segmentation": mask, "Boundaries": boundaries, "CategoriesPresent": categories}
    savemat(path, {"GTcls": content}, do_compression=True)


@pytest.fixture
def data(tmp_path):
    """(root, sbd, id -> mask): VOC and SBD on disk, with masks that differ where both have one."""
    root, sbd = tmp_path / "VOC2012", tmp_path / "SBD"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (sbd / "cls").mkdir(parents=True)
    rng = np.random.default_rng(0)
    masks = {}
    for name, ids in (("train", VOC_TRAIN), ("val", VOC_VAL)):
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").write_text("\n".join(ids) + "\n")
    for name, ids in (("train", SBD_TRAIN), ("val", SBD_VAL)):
        (sbd / f"{name}.txt").write_text("\n".join(ids) + "\n")
        for i in ids:
            masks[i] = rng.integers(0, 21, SHAPE, np.uint8)
            sbd_mat(sbd / "cls" / f"{i}.mat", masks[i])
    for i in VOC_TRAIN + VOC_VAL:
        masks[i] = rng.integers(0, 21, SHAPE, np.uint8)
        masks[i][:2] = 255
        write_mask(root / "SegmentationClass" / f"{i}.png", masks[i], PALETTE)
    for i in masks:
        Image.new("RGB", SHAPE[::-1]).save(root / "JPEGImages" / f"{i}.jpg")
    return root, sbd, masks


def test_trainaug_is_sbd_and_voc_train_without_voc_val(data):
    root, sbd, _ = data
    voc_aug.build(root, sbd, images=4)
    assert voc.read_split(root, "trainaug") == TRAINAUG


def test_each_mask_is_vocs_where_it_has_one_and_sbds_elsewhere(data):
    root, sbd, masks = data
    summary = voc_aug.build(root, sbd, images=4)
    assert sorted(p.stem for p in (root / "SegmentationClassAug").iterdir()) == sorted(masks)
    for i, mask in masks.items():  # `masks` was overwritten by VOC's
        with Image.open(voc.mask_path(root, i)) as image:
            assert image.mode == "P"
            colours = np.array(image.getpalette(), np.uint8).reshape(-1, 3)
            assert (np.array(image) == mask).all()
        assert (colours[np.unique(mask)] == PALETTE[np.unique(mask)]).all()
    assert summary | {"trainaug_sha256": ""} == {
        "trainaug": 4, "val": 2, "masks": 6, "from_voc": 4, "from_sbd": 2,
        "with_ignored_pixels": 4, "trainaug_sha256": "",
    }  # fmt: skip


def test_masks_that_are_there_are_kept(data):
    root, sbd, _ = data
    mine = np.full(SHAPE, 7, np.uint8)
    write_mask(voc.mask_path(root, "2008_000001"), mine, PALETTE)
    voc_aug.build(root, sbd, images=4)
    assert (read_mask(voc.mask_path(root, "2008_000001")) == 7).all()


def test_another_number_of_ids_is_refused_before_anything_is_written(data):
    root, sbd, _ = data
    with pytest.raises(UserError, match="4 ids, trainaug has 10582"):
        voc_aug.build(root, sbd)
    assert not (root / "SegmentationClassAug").exists()


@pytest.mark.parametrize("name", ["train.txt", "cls/2008_000002.mat"])
def test_a_missing_file_of_sbd_is_named(data, name):
    root, sbd, _ = data
    (sbd / name).unlink()
    with pytest.raises(UserError, match=name):
        voc_aug.build(root, sbd, images=4)
    assert not voc.list_path(root, "trainaug").exists()


def test_a_damaged_mat_is_named(data):
    root, sbd, _ = data
    (sbd / "cls" / "2008_000002.mat").write_bytes(b"not a mat")
    with pytest.raises(UserError, match="2008_000002.mat: not a mask of SBD") as error:
        voc_aug.build(root, sbd, images=4)
    assert "\n" not in str(error.value)


def test_classes_that_voc_does_not_have_are_refused_in_sbd(data):
    root, sbd, _ = data
    sbd_mat(sbd / "cls" / "2008_000002.mat", np.full(SHAPE, 21, np.uint8))
    with pytest.raises(UserError, match="2008_000002.mat: not a map of classes"):
        voc_aug.build(root, sbd, images=4)


def test_values_that_are_neither_class_nor_ignored_are_refused_in_voc(data):
    root, sbd, masks = data
    wrong = masks["2007_000004"].copy()
    wrong[5, 5] = 99
    write_mask(root / "SegmentationClass" / "2007_000004.png", wrong, PALETTE)
    with pytest.raises(UserError, match=r"2007_000004.png: values \[99\]"):
        voc_aug.build(root, sbd, images=4)


def test_colours_that_are_not_vocs_are_refused(data):
    root, sbd, masks = data
    path = root / "SegmentationClass" / "2007_000004.png"
    write_mask(path, masks["2007_000004"], PALETTE[::-1])
    with pytest.raises(UserError, match="colours are not VOC's"):
        voc_aug.build(root, sbd, images=4)


def test_a_mask_of_another_size_than_its_photo_is_refused(data):
    root, sbd, _ = data
    Image.new("RGB", (9, 9)).save(root / "JPEGImages" / "2008_000001.jpg")
    with pytest.raises(UserError, match="16x12 pixels, its photo has 9x9"):
        voc_aug.build(root, sbd, images=4)


def test_the_program_says_what_it_made(data, capsys):
    root, sbd, _ = data
    flags = ["--root", str(root), "--sbd", str(sbd), "--images", "4", "--processes", "2"]
    assert build_voc_aug.main(flags) == 0
    assert "6 masks (4 of VOC, 2 of SBD, 4 with ignored pixels)" in capsys.readouterr().out
