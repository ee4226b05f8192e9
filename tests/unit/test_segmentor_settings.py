"""Segmentor of a segmentor, and what a wrong one is told."""

import json

import pytest

import train_segmentor
from attnseg.errors import UserError, run
from attnseg.settings import Segmentor, read_segmentor


def test_settings_survive_json():
    settings = read_segmentor({"backbone": "resnet18", "iterations": 7, "lr": 1, "rates": [1, 2]})
    assert read_segmentor(json.loads(json.dumps(settings.dump()))) == settings


def test_defaults_are_the_published_recipe():
    settings = read_segmentor({"pretrained": "resnet101.pth"})
    assert (settings.crop, settings.batch, settings.iterations) == (321, 10, 20000)
    assert (settings.lr, settings.classifier_lr_factor, settings.poly_power) == (2.5e-4, 10, 0.9)
    assert (settings.momentum, settings.weight_decay) == (0.9, 5e-4)
    assert settings.dilations == [6, 12, 18, 24]
    assert settings.norm_is_frozen
    assert settings.name == "DeepLabV2 ResNet-101"


def test_what_a_workflow_keeps_beside_the_settings_is_passed_over():
    values = {"train": {"dataset": "voc"}, "test": {"flip": True}, "seed": None}
    assert read_segmentor(values) == Segmentor()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"iteration": 5}, "segmentor.iteration: no such key; did you mean `iterations`?"),
        ({"lr": "fast"}, "segmentor.lr: expected number, not 'fast'"),
        ({"batch": True}, "segmentor.batch: expected integer, not True"),
        ({"batch": 0}, "segmentor.batch: 0 is too small; must be at least 1"),
        ({"scales": [0.5, "big"]}, "segmentor.scales.1: expected number, not 'big'"),
        (
            {"backbone": "vgg16"},
            "segmentor.backbone: 'vgg16' is not one of resnet18, resnet34, resnet50, resnet101",
        ),
        ({"output_stride": 4}, "segmentor.rates: None must be set"),
        ({"stem": "small", "output_stride": 32}, "segmentor.output_stride: 32 must be one of"),
        ({"loss_scales": [0.5]}, "segmentor.loss_scales: [0.5] must be 1 and smaller scales"),
        ({"frozen_norm": True}, "segmentor.frozen_norm: True must be false without `pretrained`"),
        (
            {"loss": "balance"},
            "segmentor.loss: 'balance' is not one of plain, all_pixels, balanced",
        ),
        ({"style": "caffe", "stem": "deep"}, "segmentor.stem: 'deep' must be imagenet for caffe's"),
        ({"cat_max_ratio": 0}, "segmentor.cat_max_ratio: 0 is too small; must be more than 0"),
        ({"warmup": 9, "iterations": 9}, "segmentor.warmup: 9 must be fewer than the iterations"),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(values, told):
    with pytest.raises(UserError) as raised:
        read_segmentor(values)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--settings", "{oops"], "--settings: not JSON"),
        (["--settings", "absent.json"], "--settings absent.json: No such file"),
        (["--set", "lr"], "--set lr: write KEY=VALUE"),
        (["--set", "lr=0"], "segmentor.lr: 0 is too small; must be more than 0"),
        (["--dataset", "imagenet"], "datasets.imagenet: no such data set"),
        ([], "no list of split 'train'"),
    ],
)
def test_a_wrong_argument_of_the_training_is_one_line(tmp_path, capsys, arguments, told):
    common = ["--root", str(tmp_path), "--train-split", "train", "--output", str(tmp_path / "w")]
    assert run(lambda: train_segmentor.main([*common, *arguments])) == 1
    errors = capsys.readouterr().err
    assert errors.startswith("error: ") and errors.count("\n") == 1
    assert told in errors
