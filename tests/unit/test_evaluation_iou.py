"""IoU counts against a loop over pixels and against scikit-learn."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, jaccard_score

from attnseg.errors import UserError
from attnseg.results import iou as E
from attnseg.results import measured
from attnseg.results.measured import read_measured

CLASSES = 5


def masks(seed: int, shape=(13, 17), classes=CLASSES):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, shape).astype(np.uint8)
    prediction = np.where(rng.random(shape) < 0.6, truth, rng.integers(0, classes, shape))
    truth[rng.random(shape) < 0.1] = 255
    return prediction.astype(np.uint8), truth


def counts_by_pixel(prediction, truth, classes, ignore=255):
    tp, fp, fn = (np.zeros(classes, int) for _ in range(3))
    for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
        if t == ignore:
            continue
        if p == t:
            tp[p] += 1
        else:
            fp[p] += 1
            fn[t] += 1
    return tp, fp, fn


@pytest.mark.parametrize("seed", range(5))
def test_counts_are_those_of_a_loop_over_the_pixels(seed):
    prediction, truth = masks(seed)
    got = E.counts(prediction, truth, CLASSES)
    for ours, naive in zip(got, counts_by_pixel(prediction, truth, CLASSES), strict=True):
        assert ours.dtype == np.int64
        assert ours.tolist() == naive.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_counts_and_iou_agree_with_scikit_learn(seed):
    prediction, truth = masks(seed)
    valid = truth != 255
    confusion = confusion_matrix(truth[valid], prediction[valid], labels=range(CLASSES))
    tp, fp, fn = E.counts(prediction, truth, CLASSES)
    assert tp.tolist() == np.diag(confusion).tolist()
    assert (tp + fp).tolist() == confusion.sum(axis=0).tolist()
    assert (tp + fn).tolist() == confusion.sum(axis=1).tolist()
    expected = 100 * jaccard_score(
        truth[valid], prediction[valid], labels=range(CLASSES), average=None
    )
    np.testing.assert_allclose(E.iou(tp, fp, fn), expected)


def test_miou_adds_the_counts_of_all_images_before_it_divides():
    pairs = [masks(seed) for seed in range(4)]
    tp, fp, fn = (
        np.stack(a) for a in zip(*(E.counts(p, t, CLASSES) for p, t in pairs), strict=True)
    )
    prediction = np.concatenate([p.ravel() for p, _ in pairs])
    truth = np.concatenate([t.ravel() for _, t in pairs])
    valid = truth != 255
    expected = 100 * jaccard_score(truth[valid], prediction[valid], average="macro")
    assert E.miou(tp, fp, fn) == pytest.approx(expected)
    accuracy = 100 * np.mean(truth[valid] == prediction[valid])
    assert E.pixel_accuracy(tp, fn) == pytest.approx(accuracy)


def test_an_absent_class_is_nan_and_leaves_the_mean_alone():
    truth = np.array([[0, 0, 2, 2]], np.uint8)
    prediction = np.array([[0, 2, 2, 2]], np.uint8)
    tp, fp, fn = E.counts(prediction, truth, 4)
    values = E.iou(tp, fp, fn)
    np.testing.assert_allclose(values, [50.0, np.nan, 100 * 2 / 3, np.nan])
    assert E.miou(tp[None], fp[None], fn[None]) == pytest.approx((50 + 200 / 3) / 2)


def test_a_class_that_is_only_predicted_counts_as_zero():
    tp, fp, fn = E.counts(np.array([[1, 0]]), np.array([[0, 0]]), 2)
    np.testing.assert_allclose(E.iou(tp, fp, fn), [50.0, 0.0])


def test_ignored_pixels_count_nowhere():
    truth = np.full((4, 4), 255, np.uint8)
    assert [a.sum() for a in E.counts(np.ones((4, 4), np.uint8), truth, 2)] == [0, 0, 0]
    zero = np.zeros((1, 2), np.int64)
    assert np.isnan(E.miou(zero, zero, zero)) and np.isnan(E.pixel_accuracy(zero, zero))


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        ([[0, 255]], [[0, 1]], "prediction holds .255."),
        ([[0, 2]], [[0, 255]], "prediction holds .2."),
        ([[0, -1]], [[0, 1]], "prediction holds .-1."),
        ([[0, 1]], [[0, 7]], "truth holds .7."),
        ([[0, 1, 1]], [[0, 1]], "shapes differ"),
        ([[0.0, 1.0]], [[0, 1]], "float64"),
    ],
)
def test_strange_masks_are_refused(prediction, truth, message):
    with pytest.raises(ValueError, match=message):
        E.counts(np.array(prediction), np.array(truth), 2)


def test_metrics_come_back_as_they_were_written(tmp_path):
    pairs = [masks(seed, classes=3) for seed in range(3)]
    arrays = [np.stack(a) for a in zip(*(E.counts(p, t, 4) for p, t in pairs), strict=True)]
    ids = ["2007_000032", "2007_000039", "ü"]
    written = E.write_metrics(
        tmp_path / "new" / "folder",
        ids,
        *arrays,
        dataset="mini_voc",
        split="dev",
        classes=["background", "a", "b", "never"],
        model="tiny",
        seed=3,
        parameters={"t": 150},
    )
    metrics, per_image = E.read_metrics(tmp_path / "new" / "folder")
    assert {name: metrics[name] for name in written} == written
    assert metrics["n_images"] == 3 and metrics["seed"] == 3 and metrics["parameters"] == {"t": 150}
    assert metrics["iou"][3] is None
    assert metrics["miou"] == pytest.approx(np.mean(metrics["iou"][:3]))
    assert per_image["ids"].tolist() == ids
    for name, array in zip(("tp", "fp", "fn"), arrays, strict=True):
        assert per_image[name].dtype == np.int64
        np.testing.assert_array_equal(per_image[name], array)
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {
        "metrics.json",
        "per_image.npz",
    }
    json.loads(
        (tmp_path / "new" / "folder" / "metrics.json").read_text(), parse_constant=pytest.fail
    )


def test_counts_of_another_shape_are_not_written(tmp_path):
    counts = np.zeros((2, 3), np.int64)
    with pytest.raises(ValueError, match="tp has shape"):
        E.write_metrics(
            tmp_path, ["a"], counts, counts, counts, dataset="d", split="s", classes="abc"
        )
    assert not list(tmp_path.iterdir())


def test_a_missing_or_damaged_evaluation_is_named(tmp_path):
    with pytest.raises(UserError, match="metrics.json is missing"):
        E.read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_text("{")
    with pytest.raises(UserError, match=r"metrics\.json: damaged .*; delete it"):
        E.read_metrics(tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "per_image.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(UserError, match=r"per_image\.npz: damaged"):
        E.read_metrics(tmp_path)


def evaluation(folder) -> tuple[dict, bytes]:
    """Write an evaluation of two images; what is read of it, and the bytes of metrics.json."""
    tp = np.array([[5, 3], [7, 2]])
    E.write_metrics(
        folder,
        ["a", "b"],
        tp,
        tp // 2,
        tp // 3,
        dataset="d",
        split="s",
        classes=["background", "x"],
    )
    return read_measured(folder / "metrics.json"), (folder / "metrics.json").read_bytes()


def test_a_flipped_bit_of_a_metrics_json_is_seen_or_changes_nothing(tmp_path):
    metrics, good = evaluation(tmp_path)
    draw, seen = random.Random(0), 0
    for _ in range(400):
        damaged = bytearray(good)
        damaged[draw.randrange(len(good))] ^= 1 << draw.randrange(8)
        (tmp_path / "metrics.json").write_bytes(damaged)
        try:
            found = read_measured(tmp_path / "metrics.json")
        except UserError as error:
            assert "metrics.json: damaged" in str(error)
            assert not (tmp_path / "metrics.json").exists()
            assert "renamed to metrics.json.bad" in str(error)
            assert (tmp_path / "metrics.json.bad").read_bytes() == damaged
            (tmp_path / "metrics.json.bad").unlink()
            seen += 1
        else:
            values = [key for key in metrics if key != "digest"]
            assert [found[key] for key in values] == [metrics[key] for key in values]
    assert seen > 300


@pytest.mark.parametrize(
    "damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])]
)
def test_counts_that_were_lost_or_changed_are_seen_and_the_workflow_evaluates_again(
    tmp_path, damage
):
    _, good = evaluation(tmp_path)
    damage(tmp_path / "per_image.npz")
    with pytest.raises(
        UserError, match=r"per_image\.npz: (missing|damaged); metrics\.json beside it"
    ):
        read_measured(tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()
    assert (tmp_path / "metrics.json.bad").read_bytes() == good


def test_a_metrics_json_that_another_process_removed_meanwhile_is_no_traceback(
    tmp_path, monkeypatch
):
    evaluation(tmp_path)
    path = tmp_path / "metrics.json"
    monkeypatch.setattr(measured, "sha256", lambda _: path.unlink() or "another")
    with pytest.raises(UserError, match=r"per_image\.npz: damaged"):
        read_measured(path)


def test_a_file_of_somebody_else_is_left_where_it_is(tmp_path):
    (tmp_path / "notes.txt").write_text("no JSON")
    with pytest.raises(UserError, match="delete it and make it again"):
        read_measured(tmp_path / "notes.txt")
    assert (tmp_path / "notes.txt").exists()
