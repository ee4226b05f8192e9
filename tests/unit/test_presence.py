"""Which classes are in photos without labels."""

import numpy as np
import pytest
from PIL import Image

from attnseg import datasets
from attnseg.backbones import load_backbone
from attnseg.core.presence import best_threshold, presence
from attnseg.datasets.labels import read_labels
from attnseg.io.shards import read_arrays
from attnseg.text2mask.options import Options
from attnseg.text2mask.presence import DEFAULT, present_classes, scores_of, sentences
from attnseg.text2mask.shard import extract_shard

CLASSES = ["dog", "cat"]


def naive_threshold(scores, present) -> tuple[float, float]:
    """Every score tried as the threshold, from the lowest on."""
    found = (-1.0, 0.0)
    for threshold in sorted(set(scores)):
        said = [s >= threshold for s in scores]
        right = sum(a and b for a, b in zip(said, present, strict=True))
        f1 = 2 * right / (sum(said) + sum(present))
        if f1 > found[1] + 1e-12:
            found = threshold, f1
    return found


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_the_best_of_all_scores(seed):
    rng = np.random.default_rng(seed)
    present = rng.random(60) < 0.3
    scores = (rng.random(60) + 0.4 * present).round(1 + seed % 2)  # with equal ones
    assert best_threshold(scores, present) == pytest.approx(naive_threshold(scores, present))


def test_a_map_that_is_high_in_few_places_says_present():
    blob, haze = np.full((1, 20, 20), 0.1), np.linspace(0, 1, 400).reshape(1, 20, 20)
    blob[0, :5, :4] = 1  # a twentieth of the cells
    inside = np.ones((20, 20), bool)
    found = presence(np.concatenate([blob, haze]), inside)
    assert found[0] == pytest.approx(0.9)
    top = np.sort(haze.ravel())[-20:].mean()
    assert found[1] == pytest.approx(top - np.median(haze))
    inside[:, 10:] = False  # padding: the blob is twice as large there
    assert presence(blob, inside)[0] == pytest.approx(0.9)
    blob[0, :, 10:] = 1
    assert presence(blob, inside)[0] == pytest.approx(0.9)


@pytest.fixture
def photos(tmp_path):
    """(the data set, its jobs): in p0 to p5 a class is there from 0.6 on; each has another score."""
    data = {"classes": CLASSES, "photos": "{id}.*", "labels": "all", "masks": "truth/{id}.png"}
    jobs = []
    for i, (dog, cat) in enumerate(
        [(0.9, 0.2), (0.3, 0.7), (0.65, 0.6), (0.5, 0.1), (0.8, 0.55), (0.2, 0.62)]
    ):
        cross = np.zeros((2, 10, 10), np.float16)
        cross[0, 0, :5], cross[1, 5, :5] = dog, cat
        item = {"id": f"p{i}", "classes": CLASSES, "content": [80, 80], "padded": [80, 80]}
        jobs.append((item, {"cross": cross, "selfcross": cross / 2}))
    return datasets.load("pets", data), jobs


def test_labels_stand_and_the_others_follow_a_threshold_chosen_on_them(photos, tmp_path):
    own, jobs = photos
    rows = ["id,classes", "p0,dog", "p1,cat", "p2,dog;cat", "p3,"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    present = present_classes("chosen", own, tmp_path, None, jobs)
    assert (present.threshold, present.scored, present.f1) == (pytest.approx(0.6, abs=1e-3), 4, 1.0)
    found = {item["id"]: (item["classes"], kinds) for item, kinds in present.only(jobs)}
    assert {i: classes for i, (classes, _) in found.items()} == {
        "p0": ["dog"], "p1": ["cat"], "p2": ["dog", "cat"], "p3": [], "p4": ["dog"], "p5": ["cat"],
    }  # fmt: skip
    assert (found["p5"][1]["selfcross"] == jobs[5][1]["selfcross"][1:]).all()
    told = sentences(present.about())
    assert "4 photos have labels, and no other classes in their masks. In the others every" in told
    assert "0.60, the best on 4 photos" in told
    # a label that a score contradicts stands
    (tmp_path / "labels.csv").write_text("\n".join([*rows[:-1], "p4,dog;cat"]))
    read_labels.cache_clear()
    again = present_classes("chosen", own, tmp_path, None, jobs)
    classes = {item["id"]: item["classes"] for item, _ in again.only(jobs)}
    assert classes["p4"] == ["dog", "cat"] and again.about() != present.about()


def test_a_photo_with_labels_is_asked_for_these_alone_and_the_others_for_all(tmp_path, tiny_sd):
    """With the maps that it has where all photos have labels; its scores are those of a pass for all."""
    rng, told = np.random.default_rng(0), {}
    for name in ("a", "b", "c", "d"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "labels.csv").write_text("id,classes\na,cat\nb,\n")
    backbone = load_backbone(tiny_sd, device="cpu")
    options = Options(noises=1, resize="none", batch_size=1)  # batches change roundings
    about = {"classes": CLASSES, "photos": "{id}.*"}
    for source, ids in (("known", "abcd"), ("csv", "ab"), ("all", "abcd")):
        own = datasets.load("pets", about | {"labels": source})
        path = tmp_path / source / "shard-00000.safetensors"
        extract_shard(path, backbone, own, tmp_path, "train", source, list(ids), options)
        told[source] = {item["id"]: (item, kinds) for item, kinds in read_arrays(path.parent)}
    classes = {name: item["classes"] for name, (item, _) in told["known"].items()}
    assert classes == {"a": ["cat"], "b": [], "c": CLASSES, "d": CLASSES}
    for name, source in (("a", "csv"), ("c", "all"), ("d", "all")):
        for kind, maps in told["known"][name][1].items():
            assert np.array_equal(maps, told[source][name][1][kind])
    for name in "ab":
        scores = told["known"][name][0]["scores"]
        assert scores == scores_of(*told["all"][name]).tolist() and len(scores) == 2
    assert "scores" not in told["known"]["c"][0]
    own = datasets.load("pets", about | {"labels": "known"})
    found = present_classes("chosen", own, tmp_path, None, told["known"].values())
    pairs = [(s, n == "a" and c == "cat") for n in "ab" for s, c in zip(told["known"][n][0]["scores"], CLASSES, strict=True)]  # fmt: skip
    assert (found.threshold, found.f1) == pytest.approx(naive_threshold(*zip(*pairs, strict=True)))
    assert found.scored == 2 and dict(found.labels) == {"a": ["cat"], "b": []}
    (tmp_path / "labels.csv").write_text("id,classes\n" + "".join(f"{n},cat\n" for n in "abcd"))
    read_labels.cache_clear()
    path = tmp_path / "whole" / "shard-00000.safetensors"
    extract_shard(path, backbone, own, tmp_path, "train", "known", list("abcd"), options)
    assert not any("scores" in item for item, _ in read_arrays(path.parent))  # no photo needs them


def test_ground_truth_chooses_the_threshold_and_nothing_else(photos, tmp_path):
    own, jobs = photos
    (tmp_path / "truth").mkdir()
    truths = {"p0": [1], "p1": [0], "p2": [1, 2], "p3": [0]}  # a cat is in p1, and not in its truth
    for name, numbers in truths.items():
        mask = np.resize(np.array([0, *numbers], np.uint8), (4, 4))
        Image.fromarray(mask).save(tmp_path / "truth" / f"{name}.png")
    present = present_classes("chosen", own, tmp_path, None, jobs)
    pairs = [
        (score, number in truths[f"p{i}"])
        for i, scores in enumerate([(0.9, 0.2), (0.3, 0.7), (0.65, 0.6), (0.5, 0.1)])
        for number, score in enumerate(scores, 1)
    ]
    threshold, f1 = naive_threshold(*zip(*pairs, strict=True))
    assert (present.threshold, present.f1) == (
        pytest.approx(threshold, abs=1e-3),
        pytest.approx(f1),
    )
    classes = {item["id"]: item["classes"] for item, _ in present.only(jobs)}
    assert classes["p1"] == ["cat"]  # by its score: the truth is for measuring


def test_without_any_label_the_usual_threshold_is_said(photos, tmp_path):
    own, jobs = photos
    present = present_classes("chosen", own, tmp_path, None, jobs)
    assert (present.threshold, present.scored, present.f1) == (DEFAULT, 0, None)
    assert "0.75, given, or the usual one" in sentences(present.about())
    assert present_classes(0.3, own, tmp_path, None, jobs).threshold == 0.3
    classes = {item["id"]: item["classes"] for item, _ in present.only(jobs)}
    assert classes == {f"p{i}": ["dog"] if i in (0, 4) else [] for i in range(6)}
    bare = datasets.load("pets", {"classes": CLASSES, "background": False, "labels": "all"})
    present = present_classes(0.99, bare, tmp_path, None, jobs)
    best = [item["classes"] for item, _ in present.only(jobs)]
    assert best == [["dog"], ["cat"], ["dog"], ["dog"], ["dog"], ["cat"]]
