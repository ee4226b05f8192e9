"""Similarity of classes, choice of failures, and uncertainty (Figures 4, 6, B.8 and D.9)."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import make_figure_b8
import make_figure_d9
import measure_similarity
from attnseg.core.scores import with_background
from attnseg.datasets import Dataset
from attnseg.errors import UserError
from attnseg.results.iou import miou
from attnseg.results.pictures import BLACK, COLOURS, GREY, coloured, uncertain
from attnseg.results.similarity import (
    cosines,
    failures,
    grouped,
    image_miou,
    pairs_of,
    regression,
)

MINI_SD = Path(__file__).resolve().parents[2] / "assets" / "mini_sd"


def test_an_image_s_miou_is_that_of_a_data_set_of_it_alone():
    rng = np.random.default_rng(0)
    tp, fp, fn = rng.integers(0, 9, (3, 20, 5))
    tp[:, 4] = fp[:, 4] = fn[:, 4] = 0
    expected = [miou(tp[i : i + 1], fp[i : i + 1], fn[i : i + 1]) for i in range(20)]
    assert image_miou(tp, fp, fn) == pytest.approx(expected)


def test_the_pairs_of_an_image_s_classes_are_compared_each_once():
    vectors = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0], [-3.0, 0.0]])
    similarity = cosines(vectors)
    found = pairs_of(["a", "b", "d"], ("a", "b", "c", "d"), similarity)
    half = 2**-0.5
    assert found.mean == pytest.approx((half - 1 - half) / 3)
    assert (found.closest, found.names) == (pytest.approx(half), ("a", "b"))


def test_failures_are_the_worst_of_the_most_similar_pairs():
    similarity = [0.9, 0.9, 0.9, 0.5, 0.7]
    quality = [50.0, 20.0, 30.0, 1.0, 60.0]
    names = ["cat and dog", "cat and dog", "cow and sheep", "car and boat", "bus and car"]
    assert failures(similarity, quality, names, 3) == [1, 2, 4]


def test_groups_hold_equally_many_in_the_order_of_similarity():
    x = np.random.default_rng(0).permutation(26) * 1.0
    similarity, quality = grouped(x, -x, 13)
    assert similarity.tolist() == [2 * i + 0.5 for i in range(13)]
    assert regression(similarity, quality)[:3] == pytest.approx((-1, 0, -1))


def test_the_published_pair_of_r_and_p_is_possible_for_13_groups():
    """Text2Mask prints r = -0.73 and p = 0.0049."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=13)
    x = (x - x.mean()) / x.std()
    other = rng.normal(size=13)
    other -= other.mean() + (other * x).mean() * x
    y = -0.73 * x + (1 - 0.73**2) ** 0.5 * other / other.std()
    _, _, r, p = regression(x, y)
    assert r == pytest.approx(-0.73) and p == pytest.approx(0.0049, abs=0.0005)


def test_the_text_encoder_s_embeddings_of_classes_give_cosines():
    toy = Dataset("toy", ("cat", "dog", "sofa"))
    found = cosines(measure_similarity.class_embeddings(MINI_SD, toy))
    assert np.diag(found) == pytest.approx(1)
    assert (np.abs(found) < 1 + 1e-6).all() and np.allclose(found, found.T)


def test_a_pixel_is_uncertain_near_the_decision_between_two_classes_or_with_the_background():
    near = 0.5 * (3 - 5**0.5)  # x = (1 - x)^2: as good as the background
    maps = torch.tensor([[[0.9, 0.9, near, 0.9]], [[0.1, 0.87, 0.0, 0.84]]])
    assert uncertain(maps).tolist() == [[False, True, True, False]]
    assert uncertain(maps, 0.1).tolist() == [[False, True, True, True]]


def test_classes_have_colours_apart_from_background_and_unknown():
    mask = np.array([[0, 3, 7, 255]], np.uint8)
    assert coloured(mask, [3, 7]).tolist() == [
        [list(BLACK), COLOURS[0].tolist(), COLOURS[1].tolist(), list(GREY)]
    ]
    assert len(np.unique(COLOURS, axis=0)) == len(COLOURS)


def test_without_a_power_the_background_s_score_is_constant():
    maps = torch.rand(2, 3, 4)
    scores = with_background(maps, 0.4, None)
    assert (scores[0] == 0.4).all() and (scores[1:] == maps).all()


def test_the_similarity_of_images_with_several_classes_is_measured(tmp_path):
    from attnseg.results.iou import write_metrics

    root, ids = tmp_path / "VOC2012", ["one", "two", "three", "four"]
    (root / "Annotations").mkdir(parents=True)
    present = (["cat", "dog"], ["cat"], ["dog", "sofa", "cat"], ["train", "boat"])
    for name, classes in zip(ids, present, strict=True):
        objects = "".join(f"<object><name>{c}</name></object>" for c in classes)
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    tp = np.arange(84).reshape(4, 21)
    write_metrics(
        tmp_path / "evaluation", ids, tp, tp, tp, dataset="mini_voc", split="train",
        classes=[str(i) for i in range(21)], model="mini", seed=0,
    )  # fmt: skip
    arguments = ["--root", root, "--split", "train", "--model", MINI_SD]
    arguments += ["--evaluation", tmp_path / "evaluation", "--output", tmp_path / "similarity"]
    assert measure_similarity.main(list(map(str, arguments))) == 0
    with np.load(tmp_path / "similarity" / "per_image.npz") as file:
        assert file["ids"].tolist() == ["one", "three", "four"]
        assert file["pair"][0] == "cat and dog" and file["pair"][2] == "boat and train"
        assert file["similarity"][0] == pytest.approx(file["closest"][0])
        assert file["similarity"][1] < file["closest"][1]
        assert file["miou"] == pytest.approx(
            [100 / 3] * 3, abs=2
        )  # tp / (tp + fp + fn), 0 / 0 left out


def test_figure_d9_says_what_stands_beside_the_published_r(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.random(200)
    np.savez(tmp_path / "per_image.npz", similarity=x, miou=60 - 30 * x + 15 * rng.normal(size=200))
    (tmp_path / "metrics.json").write_text(
        json.dumps({"dataset": "mini_voc", "split": "train", "n_images": 200, "model": "m"})
    )
    output = tmp_path / "voc_figure_d9.csv"
    assert make_figure_d9.main(["--similarity", str(tmp_path), "--output", str(output)]) == 0
    with open(output, newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    assert rows["Ours", "r"]["paper"] == "-0.73" and rows["Ours", "p"]["paper"] == "0.0049"
    assert rows["Ours", "r"]["note"].startswith("detail: of 13 groups of equal count")
    assert float(rows["Ours", "r"]["ours"]) < float(rows["Ours", "r of images"]["ours"]) < 0
    assert rows["Ours", "r of images"]["paper"] == "" and ("Group 13", "mIoU") in rows
    assert all(
        row["status"] == "measured" and row["dataset"] == "mini_voc" for row in rows.values()
    )
    assert output.with_suffix(".svg").stat().st_size > 1000
    wrong = ["--similarity", str(tmp_path), "--config", "absent.json", "--output", str(output)]
    with pytest.raises(UserError, match="^--config absent.json: .*No such file"):
        make_figure_d9.main(wrong)


def test_figure_b8_has_a_point_a_row_and_marks_the_masks_on_most_curves(tmp_path):
    curves = {
        "Time step": [{"at": 50, "masks": "t_50/crf"}, {"at": 150, "masks": "once/crf"}],
        "Power": [{"at": 1, "masks": "once/power_1"}, {"at": 2, "masks": "once/crf"}],
    }
    pairs = []
    for name, value in (("t_50/crf", 40.04), ("once/crf", 45.0), ("once/power_1", 30.0)):
        path = tmp_path / f"{name.replace('/', '-')}.json"
        path.write_text(json.dumps({"miou": value, "dataset": "mini_voc", "seed": 0}))
        pairs.append(f"{name}={path}")
    output = tmp_path / "voc_figure_b8.csv"
    arguments = ["--curves", json.dumps(curves), "--output", str(output), "--evaluations", *pairs]
    assert make_figure_b8.main(arguments) == 0
    with open(output, newline="") as file:
        rows = [(r["method"], r["metric"], r["ours"], r["note"]) for r in csv.DictReader(file)]
    assert rows == [
        ("Time step", "50", "40.0", "detail: t_50/crf"),
        ("Time step", "150", "45.0", "detail: once/crf"),
        ("Power", "1", "30.0", "detail: once/power_1"),
        ("Power", "2", "45.0", "detail: once/crf"),
    ]
    drawn = output.with_suffix(".svg").read_text()
    assert drawn.count("#d55e00") >= 3  # on both curves, and in the legend
