"""COCO's layout and its semantic masks, on a hand-made annotation file."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import build_coco_masks
from attnseg.datasets import coco as coco_module
from attnseg.datasets import coco_masks, load
from attnseg.datasets.coco import DATASET as coco
from attnseg.errors import UserError

# COCO's ids have gaps: 12, 26, 29, 30, 45, 66, 68, 69, 71 and 83 are not used.
CATEGORY_IDS = [i for i in range(1, 91) if i not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
CATEGORIES = [{"id": i, "name": name} for i, name in zip(CATEGORY_IDS, coco.classes, strict=True)]
HEIGHT, WIDTH = 40, 60
PERSON, DOG, TOOTHBRUSH = 1, 18, 90


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def instance(image, category, shape, crowd=0):
    return {
        "image_id": image, "category_id": category, "segmentation": shape, "iscrowd": crowd,
    }  # fmt: skip


def runs(mask):
    """COCO's uncompressed code: lengths of runs in column order, zeros first."""
    counts, value, length = [], 0, 0
    for pixel in mask.T.ravel():
        if pixel != value:
            counts.append(length)
            value, length = pixel, 0
        length += 1
    return {"counts": [*counts, length], "size": list(mask.shape)}


@pytest.fixture
def root(tmp_path) -> Path:
    images = [
        {"id": i, "file_name": f"COCO_train2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in (9, 7, 8)
    ]
    annotations = [
        instance(9, PERSON, box(10, 10, 40, 30)),
        instance(9, DOG, box(15, 15, 25, 25)),
        instance(7, TOOTHBRUSH, box(0, 0, 10, 10)),
        instance(7, PERSON, box(5, 5, 8, 8)),
    ]
    captions = [
        {"image_id": 9, "caption": "a person with a dog\n"},
        {"image_id": 9, "caption": "a dog"},
    ]
    coco_module.split_items.cache_clear()
    (tmp_path / "annotations").mkdir()
    for kind, content in (("instances", annotations), ("captions", captions)):
        (tmp_path / "annotations" / f"{kind}_train2014.json").write_text(
            json.dumps({"images": images, "annotations": content, "categories": CATEGORIES})
        )
    return tmp_path


def test_the_last_category_of_coco_is_class_80():
    numbers = coco_module.class_numbers(CATEGORIES[::-1])
    assert (numbers[PERSON], numbers[DOG], numbers[TOOTHBRUSH]) == (1, 17, 80)
    assert sorted(numbers.values()) == list(range(1, 81))


def test_other_categories_are_refused():
    with pytest.raises(UserError, match="80 categories expected"):
        coco_module.class_numbers(CATEGORIES[:-1])


def test_a_file_of_other_categories_is_read_by_their_names(tmp_path):
    """Ids from 0, in another order than the classes, and one category that is none of them."""
    categories = [{"id": i, "name": n} for i, n in enumerate(("worker", "crane", "forklift"))]
    images = [{"id": 5, "file_name": "a b.png", "height": HEIGHT, "width": WIDTH}]
    annotations = [
        instance(5, 2, box(0, 0, 20, 20)),
        instance(5, 1, box(10, 10, 30, 30)),
        instance(5, 0, box(0, 0, 60, 40)),
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_2026.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": categories})
    )
    own = load("works", {"layout": "coco", "classes": ["forklift", "crane"], "photos": "{id}.*"})
    coco_masks.build_masks(tmp_path, "2026", dataset=own)
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[0:20, 0:20], expected[10:30, 10:30] = 1, 2
    assert (np.asarray(Image.open(tmp_path / "masks/a b.png")) == expected).all()
    assert own.labels(tmp_path, "a b", split="2026") == ["forklift", "crane"]
    other = load("works", {"layout": "coco", "classes": ["forklift", "lorry"]})
    with pytest.raises(UserError, match="the annotations have 3, without lorry: name classes as"):
        coco_masks.build_masks(tmp_path, "2026", dataset=other)


def test_a_split_is_its_images_with_annotations_by_id(root):
    assert coco.read_split(root, "train") == [
        "COCO_train2014_000000000007",
        "COCO_train2014_000000000009",
    ]
    assert coco.read_split(root, "train2014") == coco.read_split(root, "train")


def test_labels_are_the_annotated_classes_in_coco_s_order(root):
    assert coco.labels(root, "COCO_train2014_000000000007") == ["person", "toothbrush"]
    with pytest.raises(UserError, match="no annotation in train2014"):
        coco.labels(root, "COCO_train2014_000000000008")


def test_the_last_instance_is_on_top_whatever_its_size():
    small, large = instance(9, DOG, box(15, 15, 25, 25)), instance(9, PERSON, box(10, 10, 40, 30))
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[10:30, 10:40] = 1
    numbers = coco_module.class_numbers(CATEGORIES)
    assert (coco_masks.rasterise([small, large], HEIGHT, WIDTH, numbers) == expected).all()
    expected[15:25, 15:25] = 17
    assert (coco_masks.rasterise([large, small], HEIGHT, WIDTH, numbers) == expected).all()


def test_crowds_are_in_neither_masks_nor_labels():
    crowd = np.ones((HEIGHT, WIDTH), np.uint8)
    shape = np.zeros((HEIGHT, WIDTH), np.uint8)
    shape[3:5, 2:7] = 1
    shape[12, 12] = 1
    annotations = [
        instance(9, DOG, runs(shape)),
        instance(9, PERSON, runs(crowd), crowd=1),
        instance(9, TOOTHBRUSH, []),
        instance(8, PERSON, runs(crowd), crowd=1),
    ]
    numbers = coco_module.class_numbers(CATEGORIES)
    assert (coco_masks.rasterise(annotations[:3], HEIGHT, WIDTH, numbers) == 17 * shape).all()
    images = [{"id": 9, "file_name": "b.jpg"}, {"id": 8, "file_name": "a.jpg"}]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    assert coco_module.index(content) == [
        {"id": "a", "classes": []},
        {"id": "b", "classes": ["dog", "toothbrush"]},
    ]


def test_masks_are_written_with_an_index_that_later_reading_uses(root, capsys):
    assert build_coco_masks.main(["--root", str(root), "--splits", "train"]) == 0
    assert "train2014: 2 images, 2 masks made" in capsys.readouterr().out
    i = "COCO_train2014_000000000009"
    with Image.open(coco.mask_path(root, i)) as image:
        assert (image.mode, image.size) == ("P", (WIDTH, HEIGHT))
        assert set(np.unique(np.array(image))) == {0, 1, 17}
    assert coco.labels(root, i, "mask") == ["person", "dog"]
    (root / "annotations" / "instances_train2014.json").write_text("{}")
    assert coco.read_split(root, "train")[-1] == i
    assert coco.labels(root, i) == ["person", "dog"]


def test_ones_own_annotations_in_this_form_have_classes_of_their_own(tmp_path):
    settings = {"key": "farm", "layout": "coco", "classes": ["cow", "hen"], "photos": "p/{id}.*"}
    categories = [{"id": 4, "name": "cow"}, {"id": 9, "name": "hen"}]
    image = {"id": 1, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH}
    content = {
        "images": [image], "annotations": [instance(1, 9, box(0, 0, 10, 10))], "categories": categories,
    }  # fmt: skip
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_all.json").write_text(json.dumps(content))
    arguments = ["--root", str(tmp_path), "--splits", "all", "--dataset", json.dumps(settings)]
    assert build_coco_masks.main(arguments) == 0
    farm = load(json.dumps(settings))
    assert farm.read_split(tmp_path, "all") == ["a"]
    assert farm.labels(tmp_path, "a", None, "all") == farm.labels(tmp_path, "a", "mask") == ["hen"]
    assert farm.image_path(tmp_path, "a").parent == tmp_path / "p"


def test_masks_that_are_there_are_not_made_again(root, capsys):
    flags = ["--root", str(root), "--splits", "train"]
    build_coco_masks.main(flags)
    coco.mask_path(root, "COCO_train2014_000000000007").unlink()
    build_coco_masks.main(flags)
    assert capsys.readouterr().out.splitlines()[-1].startswith("train2014: 2 images, 1 masks made")


def test_what_is_missing_or_ambiguous_is_one_line(root):
    with pytest.raises(UserError, match="instances_val.json: no annotations of split 'val'"):
        coco.read_split(root, "val")
    file = root / "annotations" / "instances_train2014.json"
    (root / "annotations" / "instances_train2017.json").write_bytes(file.read_bytes())
    with pytest.raises(UserError, match="'train' is train2014 or train2017"):
        coco.read_split(root, "train")
    file.write_text("{")
    with pytest.raises(UserError, match="is not a COCO annotation file"):
        coco.read_split(root, "train2014")


def test_photos_are_found_by_the_split_in_their_name(root):
    assert coco.image_path(root, "COCO_val2014_000000000042").parent.name == "val2014"
    (root / "val2017").mkdir()
    Image.new("RGB", (4, 4)).save(root / "val2017" / "000000000042.jpg")
    assert coco.image_path(root, "000000000042").parent.name == "val2017"
    assert coco.image_path(root, "000000000043").parent.name == "train2017"


def test_photos_of_2017_serve_the_ids_of_2014(root):
    assert coco.split_on_disk(root, "train") == "train2014"  # not there yet
    photo = root / "train2017" / "000000000009.jpg"
    photo.parent.mkdir()
    Image.new("RGB", (4, 4)).save(photo)
    assert coco.image_path(root, "COCO_train2014_000000000009") == photo
    assert coco.split_on_disk(root, "train") == "train2017"
    renamed = root / "train2014" / "000000000009.jpg"
    renamed.parent.mkdir()
    Image.new("RGB", (4, 4)).save(renamed)
    assert coco.image_path(root, "COCO_train2014_000000000009") == renamed
    assert coco.split_on_disk(root, "train") == "train2014"
    assert coco.split_on_disk(root, "val") == "val"


def test_a_forced_run_makes_masks_again_once_and_its_further_attempts_go_on(root, monkeypatch):
    whole = coco_masks.build_masks(root, "train")["made"]
    monkeypatch.setattr("attnseg.io.runs.forced", lambda *_: "run")
    assert [coco_masks.build_masks(root, "train")["made"] for _ in range(2)] == [whole, 0]
