"""The segmentor's components, its training and its weights on disk, on a few small images."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from attnseg.datasets.images import PALETTE, read_image, read_mask, write_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError, run
from attnseg.io.files import sha256
from attnseg.segmentation import checkpoints, components, crf, predict
from attnseg.segmentation.data import Pairs, split_pairs
from attnseg.segmentation.model import (
    build_model,
    load_pretrained,
    load_segmentor,
    read_about,
    save_segmentor,
)
from attnseg.segmentation.train import runner_options, train
from attnseg.settings import Crf, TestJob, read_segmentor

CLASSES = ["background", *voc.classes]
TINY = {
    "backbone": "resnet18",
    "width": 8,
    "stem": "small",
    "output_stride": 8,
    "rates": [1, 2],
    "crop": 32,
    "batch": 2,
    "iterations": 8,
    "lr": 0.05,
    "loss_scales": [1.0],
    "photometric": True,
    "workers": 0,
    "checkpoint_interval": 3,
}

pytestmark = pytest.mark.usefixtures("one_thread")


def samples_of(labels: torch.Tensor) -> list:
    """mmseg's samples of a batch of labels [B, H, W]."""
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    return [SegDataSample(gt_sem_seg=PixelData(data=label[None])) for label in labels]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """A VOC2012 of six photos: a red square (class 1) or a blue one (class 2) on grey."""
    root = tmp_path_factory.mktemp("VOC2012")
    generator = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    ids = [f"2012_{i:06d}" for i in range(6)]
    for i, image_id in enumerate(ids):
        height, width = 40 + 2 * i, 36
        photo = np.full((height, width, 3), 128, np.uint8)
        mask = np.zeros((height, width), np.uint8)
        y, x = generator.integers(2, 16, 2)
        photo[y : y + 18, x : x + 18] = (230, 20, 20) if i % 2 else (20, 20, 230)
        mask[y : y + 18, x : x + 18] = 1 if i % 2 else 2
        Image.fromarray(photo).save(voc.image_path(root, image_id), quality=100, subsampling=0)
        write_mask(voc.mask_path(root, image_id), mask, PALETTE)
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(ids))
    return root


@pytest.fixture(scope="module")
def pairs(toy) -> Pairs:
    return split_pairs(voc, toy, "train")[1]


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """Weights after TINY's eight iterations, never interrupted."""
    path = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    train(read_segmentor(TINY), pairs, CLASSES, path, about={"dataset": "voc"})
    return path


def test_deeplabv2_head_is_the_sum_of_four_dilated_classifiers():
    torch.manual_seed(0)
    rates = (6, 12, 18, 24)
    loss = {"type": "CrossEntropyLoss", "avg_non_ignore": True}
    head = components.DeepLabV2Head(
        dilations=rates, in_channels=5, num_classes=3, in_index=0, loss_decode=loss
    ).double()
    assert sorted(name.split(".")[0] for name, _ in head.named_parameters()) == ["classifiers"] * 8
    features = torch.randn(1, 5, 41, 37, dtype=torch.double)
    with torch.no_grad():
        logits = head([features])[0].numpy()
    # by the definition, a pixel at a time: taps outside the features count as zero
    for y, x in [(0, 0), (20, 18), (40, 36), (7, 30)]:
        expected = np.zeros(3)
        for rate, classifier in zip(rates, head.classifiers, strict=True):
            expected += classifier.bias.detach().numpy()
            for i in range(3):
                for j in range(3):
                    v, u = y + (i - 1) * rate, x + (j - 1) * rate
                    if 0 <= v < 41 and 0 <= u < 37:
                        tap = classifier.weight[:, :, i, j].detach().numpy()
                        expected += tap @ features[0, :, v, u].numpy()
        np.testing.assert_allclose(logits[:, y, x], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("stem", "stride", "architecture"),
    [
        ("imagenet", 8, "deeplabv2"),
        ("imagenet", 16, "deeplabv3plus"),
        ("small", 4, "deeplabv2"),
        ("small", 8, "deeplabv3plus"),
    ],
)
def test_features_have_the_output_stride(stem, stride, architecture):
    settings = read_segmentor(
        {**TINY, "stem": stem, "output_stride": stride, "architecture": architecture}
    )
    model = build_model(settings, 21).eval()
    with torch.no_grad():
        features = model.extract_feat(torch.zeros(1, 3, 64, 96))
        logits = model.logits(torch.zeros(1, 3, 64, 96))
    assert features[-1].shape[2:] == (64 // stride, 96 // stride)
    assert logits.shape[:2] == (1, 21)


def test_multi_scale_loss_is_the_sum_over_scales_and_the_maximum():
    torch.manual_seed(0)
    settings = read_segmentor({**TINY, "loss_scales": [0.5, 0.75, 1.0]})
    model = build_model(settings, 4).eval()
    torch.nn.init.normal_(model.decode_head.classifiers[0].weight)
    images = torch.randn(2, 3, 32, 32)
    labels = torch.randint(0, 4, (2, 1, 32, 32))
    labels[:, :, :5] = 255
    with torch.no_grad():
        losses = model.loss(images, samples_of(labels[:, 0]))
        logits = [
            model.logits(F.interpolate(images, (s, s), mode="bilinear", align_corners=False))
            for s in (32, 24, 16)
        ]
        size = logits[0].shape[2:]
        logits.append(
            torch.stack([F.interpolate(one, size, mode="bilinear") for one in logits]).amax(0)
        )
        for loss, one in zip(losses.values(), logits, strict=True):
            # the label under the centre of each feature, as Pillow picks it
            small = [
                np.asarray(
                    Image.fromarray(label[0].numpy().astype(np.uint8)).resize(one.shape[3:1:-1], 0)
                )
                for label in labels
            ]
            small = torch.from_numpy(np.stack(small)).long()
            expected = F.cross_entropy(one, small, ignore_index=255)
            assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_balanced_loss_is_the_mean_of_the_background_s_and_the_foreground_s():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 5, 6))
    labels = rng.choice([0, 0, 0, 1, 2, 3, 255], size=(2, 5, 6))

    def expected(labels):
        found = {"background": [], "foreground": []}
        for b, y, x in np.ndindex(labels.shape):
            if labels[b, y, x] == 255:
                continue
            z = logits[b, :, y, x]
            part = "foreground" if labels[b, y, x] else "background"
            found[part].append(np.log(np.exp(z).sum()) - z[labels[b, y, x]])
        return sum(np.mean(losses) if losses else 0 for losses in found.values()) / 2

    only_background = np.where(labels == 0, 0, 255)
    only_foreground = np.where(labels == 0, 255, labels)
    nothing = np.full_like(labels, 255)
    for given in (labels, only_background, only_foreground, nothing):
        leaf = torch.tensor(logits, requires_grad=True)
        loss = components.balanced_cross_entropy(leaf, torch.tensor(given))
        assert loss.item() == pytest.approx(expected(given), rel=1e-9)
        loss.backward()
        assert torch.isfinite(leaf.grad).all()
        assert (leaf.grad.abs().sum(1) > 0).equal(torch.tensor(given != 255))


@pytest.mark.parametrize("loss", ["plain", "all_pixels", "balanced"])
def test_a_segmentor_s_loss_is_the_named_one(loss):
    """At the labels' resolution, of labels a third of which are unknown."""
    torch.manual_seed(0)
    model = build_model(read_segmentor({**TINY, "loss": loss}), 4).eval()
    torch.nn.init.normal_(model.decode_head.classifiers[0].weight)
    images, labels = torch.randn(2, 3, 32, 32), torch.randint(0, 4, (2, 32, 32))
    labels[:, :10] = 255
    labels[0, 10:, :] = 0  # more background than foreground
    with torch.no_grad():
        (found,) = model.loss(images, samples_of(labels)).values()
        logits = F.interpolate(model.logits(images), (32, 32), mode="bilinear")
        each = -logits.log_softmax(1).gather(1, labels.clamp(max=3)[:, None])[:, 0]
    background, foreground = each[labels == 0], each[(labels > 0) & (labels < 255)]
    expected = {
        "plain": each[labels < 255].mean(),
        "all_pixels": each[labels < 255].sum() / labels.numel(),
        "balanced": (background.mean() + foreground.mean()) / 2,
    }
    assert found.item() == pytest.approx(expected[loss].item(), rel=1e-5)


def test_two_accumulated_batches_update_as_one_of_both(pairs, tmp_path, monkeypatch):
    """Two passes of two images, one update; with frozen batch norm it is that of all four."""
    values = {**TINY, "batch": 4, "iterations": 2, "scales": [1.0], "photometric": False}
    torch.manual_seed(0)
    torch.save(build_model(read_segmentor(values), 21).backbone.state_dict(), tmp_path / "b.pth")
    values["pretrained"] = str(tmp_path / "b.pth")
    passes = []
    forward = components.Segmentor.loss

    def counted(self, inputs, data_samples):
        passes.append(len(inputs))
        return forward(self, inputs, data_samples)

    monkeypatch.setattr(components.Segmentor, "loss", counted)
    found = []
    for batch, accumulate in ((4, 1), (2, 2)):
        settings = read_segmentor({**values, "batch": batch, "accumulate": accumulate})
        # padding is unequal among the photos, and a mean over labelled pixels would weigh it
        settings = settings.but(loss="all_pixels")
        path = tmp_path / f"{batch}.safetensors"
        train(settings, pairs, CLASSES, path)
        found.append(load_segmentor(path)[0].state_dict())
    assert passes == [4, 4, 2, 2, 2, 2]
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name], one, rtol=1e-4, atol=1e-6)


def test_a_balanced_loss_needs_a_background(pairs, tmp_path):
    with pytest.raises(UserError, match="road is no background; set `loss: plain`"):
        train(read_segmentor({**TINY, "loss": "balanced"}), pairs, ["road", "car"], tmp_path / "w")


def test_augmented_masks_fit_their_photos(pairs):
    settings = read_segmentor({**TINY, "photometric": False, "scales": [0.75, 1.0, 1.5]})
    options = runner_options(settings, pairs, CLASSES, Path("unused"), "cpu", None)
    from mmseg.registry import DATASETS

    dataset = DATASETS.build(
        options["train_dataloader"]["dataset"], default_args={"_scope_": "mmseg"}
    )
    inside = 0
    for place in range(24):
        sample = dataset[place % 6, place]
        blue, _, red = sample["inputs"].float()  # mmcv reads BGR
        labels = sample["data_samples"].gt_sem_seg.data[0]
        # away from the edges, where the photo's colours are mixed
        solid = F.avg_pool2d(labels[None, None].float(), 5, 1, 2)[0, 0]
        for number, (more, less) in {1: (red, blue), 2: (blue, red)}.items():
            centre = (labels == number) & (solid == number)
            inside += int(centre.sum())
            assert (more[centre] > 200).all() and (less[centre] < 60).all()
    assert inside > 1000


def test_a_sample_depends_on_its_place_and_on_nothing_before(pairs):
    options = runner_options(read_segmentor(TINY), pairs, CLASSES, Path("unused"), "cpu", None)
    from mmseg.registry import DATASETS

    dataset = DATASETS.build(
        options["train_dataloader"]["dataset"], default_args={"_scope_": "mmseg"}
    )
    first = dataset[3, 17]["inputs"]
    np.random.rand(5)
    assert not torch.equal(dataset[3, 18]["inputs"], first)
    assert torch.equal(dataset[3, 17]["inputs"], first)


def test_learning_rates_follow_the_recipe(pairs, tmp_path, monkeypatch):
    seen = []

    def record(self, runner, batch_idx, data_batch=None):
        names = {id(parameter): name for name, parameter in runner.model.named_parameters()}
        groups = runner.optim_wrapper.optimizer.param_groups
        seen.append(
            {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
        )
        assert len(seen[-1]) == len(names)

    monkeypatch.setattr(components.SeedEachIteration, "before_train_iter", record)
    train(read_segmentor({**TINY, "iterations": 4}), pairs, CLASSES, tmp_path / "w.safetensors")
    assert len(seen) == 4
    for i, rates in enumerate(seen):
        decay = (1 - i / 4) ** 0.9
        for name, (lr, weight_decay) in rates.items():
            head, bias = name.startswith("decode_head"), name.endswith(".bias")
            factor = 1 if not head else 20 if bias else 10
            assert lr == pytest.approx(0.05 * factor * decay), name
            assert weight_decay == (0 if head and bias else 5e-4), name


def test_weights_on_disk_need_nothing_else(trained, toy):
    model, about = load_segmentor(trained)
    assert about["dataset"] == "voc" and about["classes"] == CLASSES
    settings = read_segmentor(about["settings"])
    assert settings == read_segmentor(TINY)
    copy = trained.with_name("copy.safetensors")
    save_segmentor(copy, model, settings, classes=CLASSES)
    photo = read_image(voc.image_path(toy, "2012_000001"))
    one = predict.probabilities(model, photo[None], TestJob())
    two = predict.probabilities(load_segmentor(copy)[0], photo[None], TestJob())
    np.testing.assert_array_equal(one, two)
    assert [p.name for p in trained.parent.glob("training-*")] == []


def test_an_interrupted_training_resumes_to_the_same_weights(
    trained, pairs, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "weights.safetensors"
    step = components.SeedEachIteration.before_train_iter

    def interrupted(self, runner, batch_idx, data_batch=None):
        if batch_idx == 5:
            raise KeyboardInterrupt
        step(self, runner, batch_idx, data_batch)

    with monkeypatch.context() as patch:
        patch.setattr(components.SeedEachIteration, "before_train_iter", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(read_segmentor(TINY), pairs, CLASSES, output, about={"dataset": "voc"})
    assert not output.exists()
    assert len(list(tmp_path.glob("training-*"))) == 1
    moved = tmp_path.with_name(f"{tmp_path.name} moved")  # as a clone that was renamed
    tmp_path.rename(moved)
    output = moved / "weights.safetensors"
    train(read_segmentor(TINY), pairs, CLASSES, output, about={"dataset": "voc"})
    assert "resumed after iteration 3" in capsys.readouterr().out
    expected, resumed = (load_segmentor(p)[0].state_dict() for p in (trained, output))
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_is_damaged_ends_a_training_in_one_line(toy, tmp_path, workers):
    root = Path(shutil.copytree(toy, tmp_path / "VOC2012"))
    photo = voc.image_path(root, "2012_000003")
    photo.write_bytes(photo.read_bytes()[:200])
    damaged = split_pairs(voc, root, "train")[1]
    with pytest.raises(UserError, match=rf"^{photo}: not a readable image [^\n]*$"):
        train(
            read_segmentor(TINY | {"workers": workers}),
            damaged,
            CLASSES,
            tmp_path / "w.safetensors",
        )


def test_other_masks_or_settings_do_not_resume(pairs, toy, tmp_path):
    other = tmp_path / "masks"
    shutil.copytree(toy / "SegmentationClassAug", other)
    (other / "manifest.json").write_text('{"parameters": 1}')
    _, same_files = split_pairs(voc, toy, "train", other)
    assert same_files.fingerprint() != pairs.fingerprint()


@pytest.mark.parametrize("merge", ["maximum", "mean"])
def test_mirroring_the_photo_mirrors_the_prediction(trained, toy, merge):
    model, _ = load_segmentor(trained)
    photo = read_image(voc.image_path(toy, "2012_000001"))
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
    trained, photos, tmp_path, monkeypatch
):
    model, about = load_segmentor(trained)
    passed = []
    model.backbone.register_forward_pre_hook(lambda _, args: passed.append(len(args[0])))
    monkeypatch.setattr("attnseg.segmentation.model.load_segmentor", lambda *_: (model, about))
    test = TestJob(scales=[1.0], flip=True, crf=None)
    shards = predict.write_scores(tmp_path / "scores", photos, trained, test, "cpu", size=14)
    assert passed == [6, 2, 16, 4]  # each photo and its mirror image
    found = labels_of(shards, photos, test)
    assert list(found) == photos.ids
    for image_id, path in zip(photos.ids, photos.photos, strict=True):
        alone = predict.probabilities(model, read_image(path)[None], test)[0]
        best = np.sort(alone, 0)
        sure = best[-1] - best[-2] > 1e-3
        np.testing.assert_array_equal(found[image_id][sure], alone.argmax(0)[sure])


def test_a_forced_evaluation_takes_the_scores_of_another_rule_as_they_are(
    trained, photos, tmp_path, monkeypatch
):
    test = TestJob(scales=[1.0], crf=None)
    shards = predict.write_scores(tmp_path / "scores", photos, trained, test, "cpu")
    monkeypatch.setattr("attnseg.io.runs.forced", lambda *_: "run")
    before = [shard.stat().st_mtime_ns for shard in shards]
    for anew, made in ((False, False), (True, True), (True, False)):  # another attempt goes on
        predict.write_scores(tmp_path / "scores", photos, trained, test, "cpu", anew=anew)
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


def test_labels_of_stored_scores_are_those_of_the_exact_ones(trained, photos, tmp_path):
    from attnseg.core.crf import crf_probabilities

    test = TestJob(crf=Crf(bilateral={"sxy": 5}))
    shards = predict.write_scores(tmp_path / "scores", photos, trained, test, "cpu")
    found, model = labels_of(shards, photos, test), load_segmentor(trained)[0]
    for image_id, path in zip(photos.ids[:4], photos.photos[:4], strict=True):
        photo = read_image(path)
        exact = predict.probabilities(model, photo[None], test)[0]
        expected = crf_probabilities(photo, exact, test.crf).argmax(0)
        assert (found[image_id] == expected).mean() > 0.995


def test_backbone_weights_are_taken_by_torchvisions_names(tmp_path):
    settings = read_segmentor({**TINY, "stem": "imagenet"})
    torch.manual_seed(1)
    source = build_model(settings, 21).backbone.state_dict()
    torch.save({**source, "fc.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    model = build_model(settings, 21)
    load_pretrained(model, str(tmp_path / "resnet.pth"))
    assert all(
        torch.equal(value, source[key]) for key, value in model.backbone.state_dict().items()
    )
    source.pop("layer3.1.conv2.weight")
    torch.save(source, tmp_path / "partial.pth")
    with pytest.raises(UserError, match="layer3.1.conv2.weight and 0 more of the backbone"):
        load_pretrained(model, str(tmp_path / "partial.pth"))


def caffe_names(state: dict) -> dict:
    """A backbone's weights under the names of kazuto1011's conversions, for BGR."""
    found = {}
    for name, values in state.items():
        *place, module, rest = name.split(".")
        if not place:  # the stem
            kind = module.rstrip("1")
            found[f"layer1.conv1.{kind}.{rest}"] = (
                values[:, [2, 1, 0]] if kind == "conv" else values
            )
            continue
        block = f"layer{int(place[0][-1]) + 1}.block{int(place[1]) + 1}"
        if place[-1] == "downsample":
            branch, kind = "proj", ("conv", "bn")[int(module)]
        else:
            branch = ("reduce", "conv3x3", "increase")[int(module[-1]) - 1]
            kind = module[:-1]
        found[f"{block}.{branch}.{kind}.{rest}"] = values
    return found


def test_caffe_s_weights_fill_a_backbone_with_its_strides(tmp_path):
    settings = read_segmentor(
        {**TINY, "backbone": "resnet50", "stem": "imagenet", "style": "caffe"}
    )
    torch.manual_seed(1)
    source = build_model(settings, 21)
    first = source.backbone.layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
    # 36 pixels, 18 after the stem; of 3x3 windows, 9 without and 10 with the last that is partly outside
    assert source.backbone.maxpool(torch.zeros(1, 1, 18, 18)).shape[2:] == (10, 10)
    weights = caffe_names(source.backbone.state_dict())
    torch.save({**weights, "aspp.c0.weight": torch.zeros(3)}, tmp_path / "caffe.pth")
    model = build_model(settings, 21)
    load_pretrained(model, str(tmp_path / "caffe.pth"))
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key
    # photos are RGB with the means subtracted, and nothing else
    preprocessor = model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx([122.675, 116.669, 104.008])
    assert preprocessor.std.flatten().tolist() == [1, 1, 1]

    weights.pop("layer3.block2.increase.conv.weight")
    torch.save(weights, tmp_path / "partial.pth")
    with pytest.raises(
        UserError, match="layer2.1.conv3.weight and 0 more of the backbone are absent"
    ):
        load_pretrained(model, str(tmp_path / "partial.pth"))
    plain = build_model(settings.but(style="pytorch"), 21)
    for wrong, file in ((plain, "caffe.pth"), (model, "torchvision.pth")):
        torch.save(source.backbone.state_dict(), tmp_path / "torchvision.pth")
        with pytest.raises(UserError, match="more of the backbone are absent .* and style"):
            load_pretrained(wrong, str(tmp_path / file))


def test_a_deep_stem_and_contracted_dilation_take_openmmlab_s_checkpoint(tmp_path):
    """Three 3x3 and a dilated stage's first block at the former dilation, as in its ResNetV1c."""
    values = {**TINY, "stem": "deep", "contract_dilation": True, "output_stride": 8}
    model = build_model(read_segmentor(values), 21)
    layer4 = model.backbone.layer4
    assert [block.conv1.dilation[0] for block in layer4] == [2, 4]
    source = {k: torch.full_like(v, 2) for k, v in model.backbone.state_dict().items()}
    assert "stem.6.weight" in source
    torch.save({"state_dict": source, "meta": {}}, tmp_path / "v1c.pth")
    load_pretrained(model, str(tmp_path / "v1c.pth"))
    assert all((v == 2).all() for v in model.backbone.state_dict().values())


def test_frozen_norm_keeps_its_statistics(pairs, tmp_path):
    settings = read_segmentor({**TINY, "pretrained": str(tmp_path / "resnet.pth"), "iterations": 2})
    assert settings.norm_is_frozen
    source = build_model(settings, 21).backbone.state_dict()
    torch.save(source, tmp_path / "resnet.pth")
    train(settings, pairs, CLASSES, tmp_path / "weights.safetensors")
    after = load_segmentor(tmp_path / "weights.safetensors")[0].backbone.state_dict()
    for key, value in source.items():
        is_norm = "bn" in key or "downsample.1" in key
        assert torch.equal(after[key], value) == is_norm, key


def test_a_file_that_is_no_segmentor_is_refused_in_one_line(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(UserError, match="no such file"):
        read_about(path)
    for content in (b"", b"not safetensors at all", b"\x02" + bytes(7) + b"{}"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not a segmentor of train_segmentor.py"):
            read_about(path)


def test_an_archive_of_photos_that_are_absent_is_recorded_and_no_error(trained, toy, tmp_path):
    import json

    import evaluate_segmentor

    archive, record = tmp_path / "test.tgz", tmp_path / "test.json"
    arguments = [
        *("--weights", str(trained), "--root", str(toy), "--device", "cpu", "--processes", "1"),
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


def test_evaluation_agrees_with_its_saved_predictions(trained, toy, tmp_path, capsys):
    import json

    import evaluate_segmentor

    arguments = [
        *("--weights", str(trained), "--root", str(toy), "--split", "train", "--device", "cpu"),
        *("--set", "scales=[1]", "crf.bilateral.sxy=5", "--processes", "1"),
        *("--output", str(tmp_path / "out"), "--save-predictions", str(tmp_path / "predictions")),
        *("--submission", str(tmp_path / "results.tgz")),
    ]
    assert run(lambda: evaluate_segmentor.main(arguments)) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["model"] == "DeepLabV2 ResNet-18 (8 channels)" and metrics["n_images"] == 6
    right = pixels = 0
    for image_id in voc.read_split(toy, "train"):
        truth = read_mask(voc.mask_path(toy, image_id))
        predicted = read_mask(tmp_path / "predictions" / f"{image_id}.png", truth.shape)
        right, pixels = right + int((truth == predicted).sum()), pixels + truth.size
    assert metrics["pixel_accuracy"] == pytest.approx(100 * right / pixels)
    with tarfile.open(tmp_path / "results.tgz") as archive:
        names = archive.getnames()
        member = archive.extractfile(names[-1]).read()
    folder = "results/VOC2012/Segmentation/comp6_test_cls"
    assert names == [f"{folder}/{i}.png" for i in voc.read_split(toy, "train")]
    (tmp_path / "member.png").write_bytes(member)
    with Image.open(tmp_path / "member.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.asarray(image), predicted)
    assert "mIoU" in capsys.readouterr().out


def test_an_interrupted_evaluation_keeps_its_scores_and_masks(trained, toy, tmp_path, monkeypatch):
    import json

    import evaluate_segmentor

    arguments = [
        *("--weights", str(trained), "--root", str(toy), "--split", "train", "--device", "cpu"),
        *("--set", "crf.bilateral.sxy=5", "--processes", "1", "--output"),
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
    assert first + seen == voc.read_split(toy, "train")
    whole, resumed = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "resumed")
    )
    assert whole == resumed and sorted(p.name for p in output.iterdir()) == ["metrics.json", "per_image.npz"]  # fmt: skip


def test_scores_of_another_program_need_no_device_and_other_scales_make_them_again(
    trained, toy, tmp_path, monkeypatch
):
    import evaluate_segmentor
    import predict_segmentor

    common = ["--weights", str(trained), "--root", str(toy), "--split", "train"]
    scores = tmp_path / "scores"
    predicted = [*common, "--device", "cpu", "--output", str(scores)]
    assert run(lambda: predict_segmentor.main(predicted)) == 0
    claimed = []
    claim = predict.claim_device
    monkeypatch.setattr(predict, "claim_device", lambda name: claimed.append(name) or claim("cpu"))
    test = [*common, "--scores", str(scores), "--output", str(tmp_path / "out"), "--processes", "1"]
    for values in (["crf=null"], ["crf.iterations=2"]):
        assert run(lambda v=values: evaluate_segmentor.main([*test, "--set", *v])) == 0
    assert claimed == []
    assert run(lambda: evaluate_segmentor.main([*test, "--set", "crf=null", "scales=[1]"])) == 0
    assert claimed == ["auto"]


def test_photos_are_resized_to_the_short_side_in_training_and_tests(
    pairs, toy, tmp_path, monkeypatch
):
    import json

    import evaluate_segmentor

    values = {**TINY, "short_side": 54, "scales": [1.0], "crop": 64, "iterations": 1}
    settings = read_segmentor(values)
    options = runner_options(settings, pairs, CLASSES, Path("unused"), "cpu", None)
    from mmseg.registry import DATASETS

    dataset = DATASETS.build(
        options["train_dataloader"]["dataset"], default_args={"_scope_": "mmseg"}
    )
    # photos of 36 x 40, 42, ... 50 pixels, times 1.5 and cropped
    for index in range(6):
        height = min(3 * (40 + 2 * index) // 2, 64)
        assert dataset[index, 0]["inputs"].shape[1:] == (height, 54)
    train(settings, pairs, CLASSES, tmp_path / "w.safetensors")
    seen, logits = set(), components.Segmentor.logits

    def recorded(self, inputs):
        seen.add(tuple(inputs.shape[2:]))
        return logits(self, inputs)

    monkeypatch.setattr(components.Segmentor, "logits", recorded)
    arguments = [
        *("--weights", str(tmp_path / "w.safetensors"), "--root", str(toy), "--split", "train"),
        *("--set", "scales=[1]", "flip=false", "crf=null", "--device", "cpu"),
        *("--output", str(tmp_path), "--save-predictions", str(tmp_path / "predictions")),
    ]
    assert run(lambda: evaluate_segmentor.main(arguments)) == 0
    assert seen == {(3 * height // 2, 54) for height in range(40, 52, 2)}
    assert json.loads((tmp_path / "metrics.json").read_text())["n_images"] == 6
    with Image.open(tmp_path / "predictions/2012_000000.png") as image:
        assert image.size == (36, 40)


def test_a_wrong_argument_of_the_evaluation_is_one_line(trained, toy, tmp_path, capsys):
    import evaluate_segmentor

    common = ["--weights", str(trained), "--root", str(toy), "--split", "train"]
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
        assert run(lambda a=arguments: evaluate_segmentor.main([*common, *a])) == 1
        errors = capsys.readouterr().err
        assert errors.startswith("error: ") and errors.count("\n") == 1
        assert told in errors


TWICE = """
import sys
import evaluate_segmentor, train_segmentor
data = ["--root", "VOC2012", "--device", "cpu"]
weights = "out/weights.safetensors"
train_segmentor.main(["--settings", sys.argv[1], "--train-split", "train", "--output", weights, *data])
evaluate_segmentor.main(
    ["--weights", weights, "--split", "train", "--processes", "1", "--output", "out/test"]
    + ["--save-predictions", "out/masks", *data]
)
"""


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_and_its_evaluation_repeated_elsewhere_give_the_same_bytes(
    toy, tmp_path, threads
):
    """With as many threads: sums over a batch, as batch norm's, are split among them."""
    found = []
    for run_number in (1, 2):
        folder = tmp_path / ("elsewhere/" * run_number)
        shutil.copytree(toy, folder / "VOC2012")
        subprocess.run(
            [sys.executable, "-c", TWICE, json.dumps(TINY | {"checkpoint_interval": 1000})],
            cwd=folder, check=True, capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONHASHSEED": str(run_number)},
        )  # fmt: skip
        files = sorted(path for path in (folder / "out").rglob("*") if path.is_file())
        found.append({path.relative_to(folder): path.read_bytes() for path in files})
    first, second = found
    assert {path.suffix for path in first} >= {".safetensors", ".png", ".json", ".npz"}
    assert [path for path in first if first[path] != second.get(path)] == []
    assert set(first) == set(second)


def test_two_processes_learn_what_one_does(pairs, toy, tmp_path):
    """With torchrun and gloo: each sees half of every batch, the update is that of the whole."""
    import train_segmentor

    values = TINY | {"batch": 4, "iterations": 3, "scales": [1.0], "photometric": False}
    torch.manual_seed(0)
    backbone = build_model(read_segmentor(values), 21).backbone.state_dict()
    # with it, batch norm is frozen
    save_file({k: v.contiguous() for k, v in backbone.items()}, tmp_path / "backbone.safetensors")
    values["pretrained"] = str(tmp_path / "backbone.safetensors")
    found = {}
    for processes in (1, 2):
        output = tmp_path / f"{processes}.safetensors"
        command = [
            *(sys.executable, train_segmentor.__file__, "--settings", json.dumps(values)),
            *("--root", str(toy), "--train-split", "train", "--device", "cpu"),
            *("--gpus", str(processes), "--output", str(output)),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("3 iterations on 6 images") == 1
        found[processes] = load_segmentor(output)[0].state_dict()
    for name, one in found[1].items():
        torch.testing.assert_close(found[2][name], one, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match="--gpus 3: a batch of 4 cannot be shared evenly"):
        train_segmentor.main([*command[2:-4], "--gpus", "3", "--output", "w.safetensors"])


@pytest.fixture
def stopped(pairs, tmp_path, monkeypatch):
    """A training that was interrupted after its third and fifth iteration: its folder of checkpoints."""

    def interrupted(self, runner, batch_idx, data_batch=None):
        if batch_idx == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(components.SeedEachIteration, "before_train_iter", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(
                read_segmentor({**TINY, "checkpoint_interval": 2}),
                pairs,
                CLASSES,
                tmp_path / "weights.safetensors",
            )
    (folder,) = tmp_path.glob("training-*")
    return folder


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_the_newest_whole_checkpoint_is_resumed(stopped, capsys):
    assert sorted(path.name for path in stopped.glob("*.sha256")) == [
        "iter_2.sha256",
        "iter_4.sha256",
    ]
    (stopped / "last_checkpoint").write_text("")  # as a kill can leave it
    assert checkpoints.newest(stopped).name == "iter_4.pth"
    flip(stopped / "iter_4.pth")
    assert checkpoints.newest(stopped).name == "iter_2.pth"
    assert (
        "iter_4.pth: damaged; renamed to iter_4.pth.bad; an earlier one is used"
        in capsys.readouterr().err
    )
    (stopped / "iter_2.sha256").unlink()
    assert checkpoints.newest(stopped) is None
    assert "iter_2.pth: not whole" in capsys.readouterr().err


def test_a_pickle_among_the_checkpoints_is_not_run(stopped, tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "run",))

    path = stopped / "iter_9.pth"
    torch.save({"state_dict": Trap()}, path)
    path.with_suffix(".sha256").write_text(sha256(path))
    assert checkpoints.newest(stopped).name == "iter_4.pth"
    assert not (tmp_path / "run").exists() and not path.exists()


def test_a_flipped_bit_in_the_weights_is_no_other_network(trained, tmp_path):
    path = tmp_path / "weights.safetensors"
    shutil.copy(trained, path)
    load_segmentor(path)
    flip(path)
    with pytest.raises(
        UserError, match="weights.safetensors: damaged; renamed to weights.safetensors.bad"
    ):
        load_segmentor(path)
    path.write_bytes(trained.read_bytes().replace(b"aeroplane", b"aeroplanf", 1))  # the metadata
    with pytest.raises(UserError, match="damaged"):
        load_segmentor(path)
