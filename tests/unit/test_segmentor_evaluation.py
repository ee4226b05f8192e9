"""Predictions of a segmentor and their evaluation, on a few small images."""

import json
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_segmentor import CLASSES, TINY, training_data

import evaluate_segmentor
import predict_segmentor
from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError, run
from attnseg.segmentation import architecture, crf, predict
from attnseg.segmentation.data import Pairs
from attnseg.segmentation.model import load_segmentor
from attnseg.segmentation.train import train
from attnseg.settings import Crf, TestJob, read_segmentor

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("merge", ["maximum", "mean"])
def test_mirroring_the_photo_mirrors_the_prediction(tiny_weights, tiny_voc, merge):
    model, _ = load_segmentor(tiny_weights)
    photo = read_image(voc.image_path(tiny_voc, "2012_000001"))
    test = TestJob(scales=[0.5, 1.0, 1.5], flip=True, merge=merge)
    scores = predict.probabilities(model, photo[None], test)[0]
    other = np.ascontiguousarray(photo[None, :, ::-1])
    mirrored = predict.probabilities(model, other, test)[0]
    assert scores.shape == (21, *photo.shape[:2])
    np.testing.assert_allclose(scores.sum(0), 1, rtol=1e-4)
    np.testing.assert_allclose(mirrored[:, :, ::-1], scores, atol=1e-5)


def test_logits_of_three_scales_are_merged_at_the_network_s_resolution():
    """Logits that are known at each scale, merged by a few lines of numpy."""
    rng = np.random.default_rng(0)
    known = {
        size: rng.normal(0, 3, (3, *size)).astype(np.float32) for size in [(4, 5), (3, 3), (2, 2)]
    }

    def logits(inputs):  # of a network of stride 8
        cells = tuple(-(-side // 8) for side in inputs.shape[2:])
        return torch.from_numpy(known[cells])[None]

    statistics = SimpleNamespace(mean=torch.zeros(3, 1, 1), std=torch.ones(3, 1, 1))
    model = SimpleNamespace(logits=logits, data_preprocessor=statistics, short_side=None)
    photo = np.zeros((1, 31, 33, 3), np.uint8)

    def weights(to, cells):  # bilinear, by centres of cells
        centres = np.clip((np.arange(to) + 0.5) * cells / to - 0.5, 0, cells - 1)
        return np.maximum(0, 1 - abs(centres[:, None] - np.arange(cells)))

    def resized(values, size):
        return weights(size[0], values.shape[1]) @ values @ weights(size[1], values.shape[2]).T

    at_grid = [resized(values, (4, 5)) for values in known.values()]

    def softmax(values):
        return np.exp(values) / np.exp(values).sum(0)

    expected = {
        "maximum": softmax(resized(np.max(at_grid, 0), (31, 33))),
        "mean": softmax(resized(np.log(np.mean([softmax(one) for one in at_grid], 0)), (31, 33))),
    }
    for merge, values in expected.items():
        found = predict.probabilities(model, photo, TestJob(scales=[0.5, 1.0, 0.75], merge=merge))
        np.testing.assert_allclose(found[0], values, atol=1e-5)
    assert TestJob() == TestJob(scales=[0.5, 0.75, 1.0], flip=False, merge="maximum")


@pytest.fixture
def photos(tmp_path) -> Pairs:
    """Random photos of two sizes, without masks."""
    rng = np.random.default_rng(0)
    paths = []
    for i, size in enumerate([(32, 40)] * 3 + [(40, 32)] + [(32, 40)] * 10):
        paths.append(tmp_path / "photos" / f"{i}.png")
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(paths[-1])
    return Pairs([path.stem for path in paths], paths, [])


def labels_of(shards: list[Path], photos: Pairs, test: TestJob) -> dict[str, np.ndarray]:
    paths = dict(zip(photos.ids, photos.photos, strict=True))
    jobs = [
        (shard, item, paths[item["id"]])
        for shard, manifest in predict.read_manifests(shards)
        for item in manifest["items"]
    ]
    return dict(predict.labelled(jobs, test, 1))


def test_photos_of_one_size_pass_together_and_are_predicted_as_alone(
    tiny_weights, photos, tmp_path, monkeypatch
):
    model, about = load_segmentor(tiny_weights)
    passed = []
    model.backbone.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    monkeypatch.setattr("attnseg.segmentation.model.load_segmentor", lambda *_: (model, about))
    test = TestJob(scales=[1.0], flip=True, crf=None)
    shards = predict.write_scores(tmp_path / "scores", photos, tiny_weights, test, "cpu", size=14)
    assert passed == [6, 2, 16, 4]  # each photo and its mirror image
    found = labels_of(shards, photos, test)
    assert list(found) == photos.ids
    for image_id, path in zip(photos.ids, photos.photos, strict=True):
        alone = predict.probabilities(model, read_image(path)[None], test)[0]
        best = np.sort(alone, 0)
        sure = best[-1] - best[-2] > 1e-3
        np.testing.assert_array_equal(found[image_id][sure], alone.argmax(0)[sure])


def test_a_forced_evaluation_takes_the_scores_of_another_rule_as_they_are(
    tiny_weights, photos, tmp_path, monkeypatch
):
    test = TestJob(scales=[1.0], crf=None)
    shards = predict.write_scores(tmp_path / "scores", photos, tiny_weights, test, "cpu")
    monkeypatch.setattr("attnseg.io.runs.forced", lambda *_: "run")
    before = [shard.stat().st_mtime_ns for shard in shards]
    for anew, made in ((False, False), (True, True), (True, False)):  # another attempt goes on
        predict.write_scores(tmp_path / "scores", photos, tiny_weights, test, "cpu", anew=anew)
        after = [shard.stat().st_mtime_ns for shard in shards]
        assert (before != after) == made
        before = after


def test_stored_scores_are_the_likely_classes_at_the_network_s_resolution():
    logits = torch.zeros(2, 4, 3, 5)
    logits[0, 2, 1, 1] = 9
    logits[0, 3] = -20
    logits[1, 1:] = -20
    (classes, scores), (alone, _) = predict.compact(logits)
    assert classes == [0, 1, 2] and alone == [0]
    assert scores.dtype == torch.float16 and scores.shape == (3, 3, 5)
    expected = logits[0].double() - torch.log(torch.exp(logits[0].double()).sum(0))
    np.testing.assert_allclose(scores, expected[:3], rtol=1e-3)


def test_labels_of_stored_scores_are_those_of_the_exact_ones(tiny_weights, photos, tmp_path):
    from attnseg.core.crf import crf_probabilities

    test = TestJob(crf=Crf(bilateral={"sxy": 5}))
    shards = predict.write_scores(tmp_path / "scores", photos, tiny_weights, test, "cpu")
    found, model = labels_of(shards, photos, test), load_segmentor(tiny_weights)[0]
    for image_id, path in zip(photos.ids[:4], photos.photos[:4], strict=True):
        photo = read_image(path)
        exact = predict.probabilities(model, photo[None], test)[0]
        expected = crf_probabilities(photo, exact, test.crf).argmax(0)
        assert (found[image_id] == expected).mean() > 0.995


@pytest.fixture
def data(tiny_weights, tiny_voc) -> list[str]:
    """The flags of weights and photos."""
    return ["--weights", str(tiny_weights), "--root", str(tiny_voc), "--split", "train"]


def test_an_archive_of_photos_that_are_absent_is_recorded_and_no_error(data, tmp_path):
    archive, record = tmp_path / "test.tgz", tmp_path / "test.json"
    arguments = [
        *data,
        *("--device", "cpu", "--processes", "1"),
        *("--set", "scales=[1]", "crf=null", "--submission", str(archive)),
    ]
    with pytest.raises(UserError, match="test.txt: no list of split"):
        evaluate_segmentor.main([*arguments, "--split", "test"])
    arguments += ["--record", str(record)]
    evaluate_segmentor.main([*arguments, "--split", "train"])
    assert json.loads(record.read_text()) == {"archive": str(archive), "photos": 6}
    assert archive.is_file()
    evaluate_segmentor.main([*arguments, "--split", "test"])
    content = json.loads(record.read_text())
    assert content["archive"] is None and "test.txt: no list of split" in content["missing"]
    assert not archive.exists()  # it was of another split


def test_evaluation_agrees_with_its_saved_predictions(data, tiny_voc, tmp_path, capsys):
    arguments = [
        *data,
        *("--device", "cpu", "--set", "scales=[1]", "crf.bilateral.sxy=5", "--processes", "1"),
        *("--output", str(tmp_path / "out"), "--save-predictions", str(tmp_path / "predictions")),
        *("--submission", str(tmp_path / "results.tgz")),
    ]
    assert run(lambda: evaluate_segmentor.main(arguments)) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["model"] == "DeepLabV2 ResNet-18 (8 channels)" and metrics["n_images"] == 6
    right = pixels = 0
    for image_id in voc.read_split(tiny_voc, "train"):
        truth = read_mask(voc.mask_path(tiny_voc, image_id))
        predicted = read_mask(tmp_path / "predictions" / f"{image_id}.png", truth.shape)
        right, pixels = right + int((truth == predicted).sum()), pixels + truth.size
    assert metrics["pixel_accuracy"] == pytest.approx(100 * right / pixels)
    with tarfile.open(tmp_path / "results.tgz") as archive:
        names = archive.getnames()
        member = archive.extractfile(names[-1]).read()
    folder = "results/VOC2012/Segmentation/comp6_test_cls"
    assert names == [f"{folder}/{i}.png" for i in voc.read_split(tiny_voc, "train")]
    (tmp_path / "member.png").write_bytes(member)
    with Image.open(tmp_path / "member.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), predicted)
    assert "mIoU" in capsys.readouterr().out


def test_an_interrupted_evaluation_keeps_its_scores_and_masks(
    data, tiny_voc, tmp_path, monkeypatch
):
    arguments = [
        *data,
        *("--device", "cpu", "--set", "crf.bilateral.sxy=5", "--processes", "1", "--output"),
    ]
    assert run(lambda: evaluate_segmentor.main([*arguments, str(tmp_path / "whole")])) == 0
    refine, seen = crf.refined_labels, []

    def refined(shard, item, *others):
        if len(seen) == 4:
            raise KeyboardInterrupt
        seen.append(item["id"])
        return refine(shard, item, *others)

    output = tmp_path / "resumed"
    monkeypatch.setattr(crf, "refined_labels", refined)
    with pytest.raises(KeyboardInterrupt):
        evaluate_segmentor.main([*arguments, str(output)])
    first, seen[:] = list(seen), []
    monkeypatch.setattr(predict, "claim_device", lambda name: pytest.fail("predicted again"))
    assert run(lambda: evaluate_segmentor.main([*arguments, str(output)])) == 0
    assert first + seen == voc.read_split(tiny_voc, "train")
    whole, resumed = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "resumed")
    )
    assert whole == resumed and sorted(p.name for p in output.iterdir()) == ["metrics.json", "per_image.npz"]  # fmt: skip


def test_scores_of_another_program_need_no_device_and_other_scales_make_them_again(
    data, tmp_path, monkeypatch
):
    scores = tmp_path / "scores"
    predicted = [*data, "--device", "cpu", "--output", str(scores)]
    assert run(lambda: predict_segmentor.main(predicted)) == 0
    claimed = []
    claim = predict.claim_device
    monkeypatch.setattr(predict, "claim_device", lambda name: claimed.append(name) or claim("cpu"))
    test = [*data, "--scores", str(scores), "--output", str(tmp_path / "out"), "--processes", "1"]
    for values in (["crf=null"], ["crf.iterations=2"]):
        assert run(lambda v=values: evaluate_segmentor.main([*test, "--set", *v])) == 0
    assert claimed == []
    assert run(lambda: evaluate_segmentor.main([*test, "--set", "crf=null", "scales=[1]"])) == 0
    assert claimed == ["auto"]


def test_photos_are_resized_to_the_short_side_in_training_and_tests(
    data, tiny_pairs, tmp_path, monkeypatch
):
    values = {**TINY, "short_side": 54, "scales": [1.0], "crop": 64, "iterations": 1}
    settings = read_segmentor(values)
    dataset = training_data(settings, tiny_pairs)
    # photos of 36 x 40, 42, ... 50 pixels, times 1.5 and cropped
    for index in range(6):
        height = min(3 * (40 + 2 * index) // 2, 64)
        assert dataset[index, 0]["inputs"].shape[1:] == (height, 54)
    train(settings, tiny_pairs, CLASSES, tmp_path / "w.safetensors")
    seen, logits = set(), architecture.Segmentor.logits

    def recorded(self, inputs):
        seen.add(tuple(inputs.shape[2:]))
        return logits(self, inputs)

    monkeypatch.setattr(architecture.Segmentor, "logits", recorded)
    arguments = [
        *(*data, "--weights", str(tmp_path / "w.safetensors")),
        *("--set", "scales=[1]", "flip=false", "crf=null", "--device", "cpu"),
        *("--output", str(tmp_path), "--save-predictions", str(tmp_path / "predictions")),
    ]
    assert run(lambda: evaluate_segmentor.main(arguments)) == 0
    assert seen == {(3 * height // 2, 54) for height in range(40, 52, 2)}
    assert json.loads((tmp_path / "metrics.json").read_text())["n_images"] == 6
    with Image.open(tmp_path / "predictions/2012_000000.png") as image:
        assert image.size == (36, 40)


def test_a_wrong_argument_of_the_evaluation_is_one_line(data, tmp_path, capsys):
    output = ["--output", str(tmp_path)]
    for arguments, told in [
        ([], "nothing to write"),
        ([*output, "--set", "crf={"], "settings.crf: expected mapping or null, not '{'"),
        (
            [*output, "--set", "scales=[0]"],
            "settings.scales.0: 0 is too small; must be more than 0",
        ),
        ([*output, "--weights", "absent"], "absent: no such file; train the segmentor first"),
        ([*output, "--processes", "0"], "--processes 0: at least 1"),
    ]:
        assert run(lambda a=arguments: evaluate_segmentor.main([*data, *a])) == 1
        errors = capsys.readouterr().err
        assert errors.startswith("error: ") and errors.count("\n") == 1
        assert told in errors
