"""BECO: two networks that teach each other, trained and evaluated on a few small images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny_segmentor
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from tiny_segmentor import CLASSES, interrupted, training_data

import evaluate_segmentor
import train_segmentor
from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError, run
from attnseg.segmentation import beco, predict
from attnseg.segmentation.cotraining import NOTHING, LabelledPhotos
from attnseg.segmentation.data import Pairs, split_pairs
from attnseg.segmentation.model import build_model, load_pretrained, load_segmentor, read_about
from attnseg.segmentation.train import train
from attnseg.settings import TestJob, read_segmentor

TINY = tiny_segmentor.TINY | {
    "learner": "beco",
    "architecture": "deeplabv3plus",
    "iterations": 7,
    "classifier_lr_factor": 1,
    "weight_decay": 1e-4,
    "scales": [0.5, 1.0],
    "checkpoint_interval": 2,
    "beco_warmup": 3,
    "beco_confidence": 0.0,
}

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def pairs(tiny_voc) -> Pairs:
    return split_pairs(voc, tiny_voc, "train", reliability=tiny_voc / "reliable")[1]


@pytest.fixture(scope="module")
def trained(pairs, tmp_path_factory):
    """Weights after TINY's seven iterations, never interrupted."""
    path = tmp_path_factory.mktemp("trained") / "weights.safetensors"
    train(read_segmentor(TINY), pairs, CLASSES, path, about={"dataset": "voc"})
    return path


# -- the model


def random_batch(model) -> LabelledPhotos:
    torch.manual_seed(3)
    photos = torch.randn(4, 3, 32, 32)
    labels = torch.randint(0, 3, (4, 32, 32))
    return LabelledPhotos(photos, labels, torch.randint(0, 2, (4, 32, 32)))


def test_pasted_content_comes_from_predictions_after_the_warm_up(monkeypatch):
    model = build_model(read_segmentor({**TINY, "beco_mix": 1.0, "beco_strong_colour": False}), 3)
    model.warmup_iterations = 5
    batch, asked = random_batch(model), []
    answer = batch._replace(
        labels=torch.full_like(batch.labels, 2), reliability=batch.labels * 0 + 1
    )
    monkeypatch.setattr(beco.Beco, "_online", lambda self, b: asked.append(1) or answer)
    for iteration, online in ((0, False), (4, False), (5, True), (6, True)):
        model.iteration = iteration
        asked.clear()
        learnt, weights = model.prepared(batch)
        assert len(asked) == online
        assert (learnt.labels == 2).all() == online
        # in the warm-up no boundary has a weight, and later a whole photo has none
        assert (weights == 1).all()
    answer.labels[:, :16] = 0
    assert (model.prepared(batch)[1] > 1).any()
    model.iteration = 4
    assert (model.prepared(batch)[1] == 1).all()


def test_online_predictions_are_made_in_evaluation_mode_and_leave_no_trace():
    model = build_model(read_segmentor(TINY), 3).train()
    batch = random_batch(model)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    predicted = model._online(batch)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert model.training and all(network.training for network in model.networks)
    model.eval()
    with torch.no_grad():
        scores = [
            F.interpolate(n.logits(batch.photos), (32, 32), mode="bilinear").softmax(1)
            for n in model.networks
        ]
    assert torch.equal(predicted.labels, (scores[0] * scores[1]).argmax(1))


def test_the_models_loss_is_that_of_both_networks():
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    model = build_model(read_segmentor({**TINY, "beco_mix": 0.0, "beco_strong_colour": False}), 3)
    model.eval()  # without dropout
    model.warmup_iterations = 1
    batch = random_batch(model)
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=torch.stack(known)))
        for known in zip(batch.labels, batch.reliability, strict=True)
    ]
    losses = model.loss(batch.photos, samples)
    logits = [
        F.interpolate(n.logits(batch.photos), (32, 32), mode="bilinear") for n in model.networks
    ]
    assert not torch.equal(*logits)  # they begin with weights of their own
    for own, other, loss in zip(logits, logits[::-1], losses.values(), strict=True):
        sure = batch.reliability == 1
        supervised = F.cross_entropy(own, batch.labels, reduction="none") * sure
        taught = F.cross_entropy(own, other.argmax(1), reduction="none") * ~sure
        assert loss.item() == pytest.approx((supervised.mean() + taught.mean()).item(), rel=1e-5)


def test_pretrained_weights_go_into_both_networks(tmp_path):
    settings = read_segmentor({**TINY, "learner": "supervised"})
    source = build_model(settings, 21).backbone.state_dict()
    torch.save(source, tmp_path / "resnet.pth")
    model = build_model(read_segmentor(TINY), 21)
    load_pretrained(model, str(tmp_path / "resnet.pth"))
    for network in model.networks:
        own = network.backbone.state_dict()
        assert all(torch.equal(own[key], value) for key, value in source.items())


# -- training


def test_reliability_follows_its_photo_and_padding_is_nothing(pairs, tiny_voc):
    without = split_pairs(voc, tiny_voc, "train")[1]
    for these in (pairs, without):
        dataset = training_data(read_segmentor(TINY), these)
        samples = [dataset[place % 6, place] for place in range(12)]
        for sample in samples:
            labels, reliability = sample["data_samples"].gt_sem_seg.data
            assert labels.shape == sample["inputs"].shape[1:]
            expected = labels > 0 if these is pairs else labels != NOTHING
            assert torch.equal(reliability, expected.long())
    model = build_model(read_segmentor(TINY), 21)
    batch = model.data_preprocessor(
        {
            "inputs": [sample["inputs"] for sample in samples],
            "data_samples": [sample["data_samples"] for sample in samples],
        },
        training=True,
    )
    padded = 0
    for sample in batch["data_samples"]:
        height, width = sample.img_shape
        known = sample.gt_sem_seg.data
        assert known.shape == (2, 32, 32)
        assert (known[:, height:] == NOTHING).all() and (known[:, :, width:] == NOTHING).all()
        padded += height < 32
    assert padded


def test_training_knows_its_iteration_and_its_warm_up(pairs, tmp_path, monkeypatch):
    seen = []

    def record(self, batch):
        seen.append((self.iteration, self.warmup_iterations, self.first_foreground))
        return prepared(self, batch)

    prepared = beco.Beco.prepared
    monkeypatch.setattr(beco.Beco, "prepared", record)
    settings = read_segmentor({**TINY, "iterations": 3, "beco_warmup": 2})
    train(settings, pairs, CLASSES, tmp_path / "weights.safetensors")
    assert seen == [(0, 2, 1), (1, 2, 1), (2, 2, 1)]


def test_an_interrupted_training_resumes_to_the_same_weights(trained, pairs, tmp_path, capsys):
    output = tmp_path / "weights.safetensors"
    with interrupted(5):
        train(read_segmentor(TINY), pairs, CLASSES, output, about={"dataset": "voc"})
    assert not output.exists()
    train(read_segmentor(TINY), pairs, CLASSES, output, about={"dataset": "voc"})
    assert "resumed after iteration 4" in capsys.readouterr().out
    expected, resumed = (load_segmentor(p)[0].state_dict() for p in (trained, output))
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)
    # two networks, which have learnt apart
    networks = load_segmentor(output)[0].networks
    one, two = (network.decode_head.conv_seg.weight for network in networks)
    assert not torch.equal(one, two)


def test_other_reliability_maps_do_not_resume(pairs, tiny_voc, tmp_path):
    other = tmp_path / "reliable"
    shutil.copytree(tiny_voc / "reliable", other)
    arguments = (voc, tiny_voc, "train", None)
    assert split_pairs(*arguments, other)[1].fingerprint() == pairs.fingerprint()
    noise = np.random.default_rng(0).integers(0, 2, (40, 36), dtype=np.uint8)
    Image.fromarray(noise).save(other / f"{pairs.ids[0]}.png")
    assert split_pairs(*arguments, other)[1].fingerprint() != pairs.fingerprint()
    assert split_pairs(*arguments)[1].fingerprint() != pairs.fingerprint()


@pytest.mark.parametrize("name", ["deeplabv2_voc", "beco_voc"])
def test_the_mini_scales_settings_train(name, pairs, tmp_path):
    config = Path(__file__).parents[2] / "config"
    files = [yaml.safe_load((config / f).read_text()) for f in ("config.yaml", "mini.yaml")]
    values = files[0]["segmentors"][name] | files[1]["segmentors"][name]
    small = {"width": 8, "batch": 2, "crop": 32, "iterations": 3, "warmup": 1, "beco_warmup": 2}
    small["pretrained"] = None  # it is made by a rule of its own
    path = tmp_path / "weights.safetensors"
    settings = read_segmentor({**values, **small})
    assert settings.optimizer == "adamw" and settings.precision == "auto"
    train(settings, pairs, CLASSES, path)
    weights = load_segmentor(path)[0].state_dict()
    assert all(value.isfinite().all() for value in weights.values())


def test_evaluation_is_that_of_the_mean_of_both_networks_logits(trained, tiny_voc, tmp_path):
    arguments = [
        *(
            "--weights",
            str(trained),
            "--root",
            str(tiny_voc),
            "--split",
            "train",
            "--device",
            "cpu",
        ),
        *("--output", str(tmp_path / "out"), "--save-predictions", str(tmp_path / "predictions")),
        *("--set", "scales=[1]", "flip=false", "crf=null"),
    ]
    assert run(lambda: evaluate_segmentor.main(arguments)) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["model"] == "BECO DeepLabv3+ ResNet-18 (8 channels)"
    model, about = load_segmentor(trained)
    networks = []
    for i in range(2):  # each as a segmentor of its own
        network = build_model(read_segmentor({**about["settings"], "learner": "supervised"}), 21)
        network.load_state_dict(model.networks[i].state_dict())
        networks.append(network.eval())
    photo = read_image(voc.image_path(tiny_voc, "2012_000003"))
    mean, std = (np.array(v, np.float32) for v in ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)))  # fmt: skip
    inputs = torch.from_numpy(((photo - mean) / std).transpose(2, 0, 1))[None]
    with torch.no_grad():
        logits = sum(network.logits(inputs) for network in networks) / 2
        expected = F.interpolate(logits, photo.shape[:2], mode="bilinear").softmax(1)[0]
    found = predict.probabilities(model, photo[None], TestJob(scales=[1.0]))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    saved = read_mask(tmp_path / "predictions" / "2012_000003.png", photo.shape[:2])
    np.testing.assert_array_equal(saved, found.argmax(0))


def test_the_programs_flag_names_the_reliability_maps(tiny_voc, tmp_path, capsys):
    output = tmp_path / "weights.safetensors"
    common = [
        *("--settings", json.dumps({**TINY, "iterations": 1})),
        *("--root", str(tiny_voc), "--device", "cpu"),
        *("--train-split", "train", "--val-split", "train", "--output", str(output)),
    ]
    reliability = ["--reliability", str(tiny_voc / "reliable")]
    assert run(lambda: train_segmentor.main([*common, *reliability])) == 0
    out = capsys.readouterr().out
    assert "validation mIoU" in out
    assert "BECO DeepLabv3+ ResNet-18 (8 channels), 1 iterations on 6 images" in out
    assert read_about(output)["train"]["reliability"] == str(tiny_voc / "reliable")
    for arguments, told in [
        ([*reliability, "--set", "learner=supervised"], "only learner=beco uses it"),
        (["--reliability", "absent"], "absent/2012_000000.png and 5 more: no such file"),
    ]:
        assert run(lambda a=arguments: train_segmentor.main([*common, *a])) == 1
        errors = capsys.readouterr().err
        assert errors.startswith("error: ") and errors.count("\n") == 1 and told in errors


def test_a_map_of_another_size_is_refused_in_one_line(tiny_voc, tmp_path):
    Image.fromarray(np.ones((4, 6), np.uint8)).save(tmp_path / "small.png")
    results = {"gt_seg_map": np.zeros((4, 5), np.uint8), "seg_fields": ["gt_seg_map"]}
    with pytest.raises(UserError, match="6x4 pixels, its mask has 5x4"):
        beco.LoadReliability()({**results, "reliability_path": tmp_path / "small.png"})
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="not readable"):
        beco.read_reliability(tmp_path / "broken.png")
    with pytest.raises(UserError, match="has colours"):
        beco.read_reliability(voc.image_path(tiny_voc, "2012_000000"))


# -- settings


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"learner": "both"}, "segmentor.learner: 'both' is not one of supervised, beco"),
        ({"batch": 1}, "segmentor.batch: 1 must be 2 or more for beco"),
        ({"loss_scales": [0.5, 1.0]}, "segmentor.loss_scales: [0.5, 1.0] must be [1]"),
        ({"auxiliary": 0.4}, "segmentor.auxiliary: 0.4 must be 0 for beco"),
        ({"beco_mix": 2}, "segmentor.beco_mix: 2 is too large; must be at most 1"),
        (
            {"beco_online_labels": "some"},
            "segmentor.beco_online_labels: 'some' is not one of mixed, pasted",
        ),
    ],
)
def test_a_wrong_setting_of_beco_is_one_line_that_names_it(values, told):
    with pytest.raises(UserError) as raised:
        read_segmentor({**TINY, **values})
    assert str(raised.value).startswith(told)


def test_the_configuration_holds_the_published_recipe():
    path = Path(__file__).parents[2] / "config" / "config.yaml"
    settings = read_segmentor(yaml.safe_load(path.read_text())["segmentors"]["beco_voc"])
    assert settings.name == "BECO DeepLabv3+ ResNet-50"
    assert (settings.optimizer, settings.lr, settings.momentum) == ("sgd", 0.01, 0.9)
    assert (settings.weight_decay, settings.poly_power, settings.min_lr) == (1e-4, 0.9, 1e-5)
    assert (settings.iterations, settings.crop, settings.batch) == (80 * 10582 // 16, 512, 32)
    assert settings.beco_warmup == 10582 // 16  # an epoch, without the last, smaller batch
    assert settings.crop_area == [0.5, 0.75]
    assert (settings.beco_confidence, settings.beco_mix) == (0.95, 0.5)
    assert (settings.beco_boundary_size, settings.beco_boundary_weight) == (1, 0.2)


# -- the network


def test_the_network_is_a_resnet_d_with_a_multi_grid_and_256_channels_in_the_head():
    path = Path(__file__).parents[2] / "config" / "config.yaml"
    settings = read_segmentor(yaml.safe_load(path.read_text())["segmentors"]["beco_voc"])
    network = build_model(settings, 21).networks[0]
    assert [block.conv2.dilation[0] for block in network.backbone.layer4] == [2, 4, 8]
    assert [block.conv2.dilation[0] for block in network.backbone.layer3] == [1] * 6
    assert network.backbone.layer3[0].downsample[0].kernel_size == 2  # average pooling
    assert network.backbone.stem[0].kernel_size == (3, 3)
    head = network.decode_head
    assert head.channels == 256 and head.conv_seg.in_channels == 256
    assert [d for d in head.dilations] == [1, 6, 12, 18]


def test_weights_of_openmmlab_s_classifier_fit_the_resnet_d(tmp_path):
    settings = read_segmentor({**TINY, "learner": "supervised", "backbone": "resnet50", "stem": "resnet_d"})  # fmt: skip
    torch.manual_seed(1)
    source = build_model(settings, 3).state_dict()
    place = "backbone.layer1.0.downsample."
    classifier = {"head.fc.weight": torch.zeros(3)}
    for name, values in source.items():  # there the first stage's shortcut has no pooling
        if name.startswith("backbone."):
            one, two = f"{place}1.", f"{place}2."
            classifier[name.replace(one, f"{place}0.").replace(two, one)] = values
    torch.save({"state_dict": classifier}, tmp_path / "resnetv1d50.pth")
    model = build_model(settings, 3)
    load_pretrained(model, str(tmp_path / "resnetv1d50.pth"))
    for name, values in model.backbone.state_dict().items():
        assert torch.equal(values, source[f"backbone.{name}"]), name
