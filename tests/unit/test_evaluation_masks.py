"""Folders of masks are scored against the ground truth by scripts/evaluate_masks.py."""

import json

import numpy as np
import pytest
from PIL import Image

import evaluate_masks as program
from attnseg.datasets import load
from attnseg.errors import UserError, run
from attnseg.io.digests import write_digests
from attnseg.results import masks as M
from attnseg.results.iou import read_metrics

TOY = json.dumps({"key": "toy", "classes": ["cat", "dog"]})
CLASSES = ("background", "cat", "dog")
SHAPES = {"a": (6, 8), "b": (9, 5), "c": (7, 7)}


def save(path, mask):
    image = Image.fromarray(np.asarray(mask, np.uint8))
    image.putpalette(list(range(256)) * 3)  # all 256: a shorter one would cut the ids
    image.save(path)


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Three photos' truth, predictions in a folder, and a layout named `toy`."""
    rng = np.random.default_rng(0)
    truth = {i: rng.integers(0, 3, shape).astype(np.uint8) for i, shape in SHAPES.items()}
    truth["a"][0] = 255
    folder = tmp_path / "masks"
    folder.mkdir()
    predictions = {i: rng.integers(0, 3, shape).astype(np.uint8) for i, shape in SHAPES.items()}
    for image_id, mask in predictions.items():
        save(folder / f"{image_id}.png", mask)
    reader = M.Truth(list(SHAPES), CLASSES, truth.__getitem__)
    monkeypatch.setattr(program, "truth_of", lambda dataset, root, split: reader)
    return tmp_path, folder, truth, predictions, reader


def arguments(tmp_path, folder, *more):
    return [
        *("--dataset", TOY, "--root", str(tmp_path), "--split", "dev"),
        *("--masks", str(folder), "--output", str(tmp_path / "out"), *more),
    ]


def test_the_result_is_that_of_a_loop_over_all_pixels(world, capsys):
    tmp_path, folder, truth, predictions, _ = world
    (folder / "manifest.json").write_text(
        json.dumps(
            {"parameters": {"crf": None, "attention": {"model": "m/v1", "seed": 7}}, "items": []}
        )
    )
    assert program.main(arguments(tmp_path, folder, "--dataset-name", "mini_toy")) == 0
    metrics, per_image = read_metrics(tmp_path / "out")
    inter, union = np.zeros(3), np.zeros(3)
    for image_id in SHAPES:
        valid = truth[image_id] != 255
        for c in range(3):
            t, p = truth[image_id] == c, predictions[image_id] == c
            inter[c] += (t & p & valid).sum()
            union[c] += ((t | p) & valid).sum()
    np.testing.assert_allclose(metrics["iou"], 100 * inter / union)
    assert metrics["miou"] == pytest.approx(np.mean(100 * inter / union))
    assert metrics["classes"] == list(CLASSES)
    assert (metrics["dataset"], metrics["split"], metrics["n_images"]) == ("mini_toy", "dev", 3)
    assert (metrics["model"], metrics["seed"]) == ("m/v1", 7)
    assert per_image["ids"].tolist() == ["a", "b", "c"]
    assert f"mIoU {metrics['miou']:.1f}" in capsys.readouterr().out


def test_flags_win_over_the_manifest(world):
    tmp_path, folder, *_ = world
    (folder / "manifest.json").write_text(
        '{"parameters": {"model": {"path": "assets/x"}, "seed": 7}}'
    )
    program.main(arguments(tmp_path, folder))
    assert read_metrics(tmp_path / "out")[0]["model"] == "assets/x"
    program.main(arguments(tmp_path, folder, "--model", "mine", "--seed", "0"))
    metrics, _ = read_metrics(tmp_path / "out")
    assert (metrics["model"], metrics["seed"]) == ("mine", 0)


def test_the_labels_a_second_are_those_of_all_batches(world):
    tmp_path, folder, *_ = world
    manifest = tmp_path / "attention.json"
    timing = {"labels": [30, 40, 10], "seconds": [1.0, 2.0, 1.0]}
    manifest.write_text(json.dumps({"timing": timing}))
    program.main(arguments(tmp_path, folder, "--attention", str(manifest)))
    metrics = read_metrics(tmp_path / "out")[0]
    assert metrics["labels_per_second"] == 20 and metrics["timing"] == timing
    manifest.write_text("{}")  # of an extraction that was not timed
    program.main(arguments(tmp_path, folder, "--attention", str(manifest)))
    metrics = read_metrics(tmp_path / "out")[0]
    assert metrics["labels_per_second"] is None and metrics["timing"] is None


def broken(folder, kind):
    path = folder / "b.png"
    if kind == "missing":
        path.unlink()
    elif kind == "size":
        save(path, np.zeros((5, 9)))
    elif kind == "ignored":
        save(path, np.full((9, 5), 255))
    elif kind == "class":
        save(path, np.full((9, 5), 3))
    elif kind == "colour":
        Image.new("RGB", (5, 9)).save(path)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:60])
    elif kind == "text":
        path.write_text("no image")


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("missing", "is missing"),
        ("size", "9x5 pixels, the ground truth 5x9"),
        ("ignored", "255"),
        ("class", "outside 0 to 2"),
        ("colour", "RGB"),
        ("cut", "damaged"),
        ("text", "damaged"),
    ],
)
def test_a_wrong_mask_is_one_line_that_names_the_file(world, capsys, kind, says):
    tmp_path, folder, *_ = world
    broken(folder, kind)
    assert run(lambda: program.main(arguments(tmp_path, folder))) == 1
    error = capsys.readouterr().err
    assert "error: " in error and error.strip().splitlines()[-1].startswith("error: ")
    assert str(folder / "b.png") in error and says in error
    assert not (tmp_path / "out").exists()


def test_masks_of_another_method_may_be_corrected_copies_of_this_packages(world):
    tmp_path, folder, *_ = world
    (folder / "parameters.json").write_text("{}")
    (folder / "manifest.json").write_text(json.dumps({"parameters": {}}))
    write_digests(folder, {"b.png": "of before"})
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert program.main(arguments(tmp_path, folder, "--given")) == 0
    assert before == {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UserError, match=r"b\.png is damaged"):
        program.main(arguments(tmp_path, folder))
    assert (folder / "b.png.bad").read_bytes() == before[folder / "b.png"]


def test_a_missing_folder_and_an_empty_split_are_errors(world):
    tmp_path, folder, *_ = world
    with pytest.raises(UserError, match="no such folder"):
        program.main(arguments(tmp_path, tmp_path / "nowhere"))
    with pytest.raises(UserError, match="lists no images"):
        M.evaluate_masks(folder, M.Truth([], CLASSES, None))
    with pytest.raises(UserError, match="no labelled pixel"):
        M.evaluate_masks(folder, M.Truth(["a"], CLASSES, lambda _: np.full((6, 8), 255, np.uint8)))


def test_a_damaged_manifest_is_named(world):
    tmp_path, folder, *_ = world
    (folder / "manifest.json").write_text("[1")
    with pytest.raises(UserError, match="manifest.json is damaged"):
        program.main(arguments(tmp_path, folder))


def test_voc_is_read_from_its_own_layout(tmp_path):
    voc = load("voc")
    path = voc.mask_path(tmp_path, "2007_000032")
    path.parent.mkdir(parents=True)
    truth = np.zeros((4, 6), np.uint8)
    truth[1:3, 2:5], truth[0] = 15, 255
    save(path, truth)
    lists = voc.list_path(tmp_path, "val")
    lists.parent.mkdir(parents=True)
    lists.write_text("2007_000032\n")
    predicted = truth.copy()
    predicted[0] = 0
    (tmp_path / "masks").mkdir()
    save(tmp_path / "masks" / "2007_000032.png", predicted)
    program.main(
        [
            *("--dataset", "voc", "--root", str(tmp_path), "--split", "val"),
            *("--masks", str(tmp_path / "masks"), "--output", str(tmp_path / "out")),
        ]
    )
    metrics, _ = read_metrics(tmp_path / "out")
    assert metrics["classes"] == ["background", *voc.classes]
    assert metrics["miou"] == 100.0 and metrics["iou"][15] == 100.0 and metrics["iou"][1] is None
