"""The mini scale's backbone: scenes of one object, and a ResNet that learns to classify them."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from attnseg.errors import UserError
from attnseg.mini.world.classification import CLASSES, named_scene, named_scenes
from attnseg.segmentation.model import MEAN, STD, build_model, load_pretrained
from attnseg.segmentation.pretraining import augmented, train_classifier
from attnseg.settings import read_segmentor
from train_backbone import main

SETTINGS = {
    "architecture": "deeplabv3plus",
    "backbone": "resnet18",
    "width": 4,
    "stem": "small",
    "output_stride": 8,
    "rates": [1, 1, 1, 1],
    "loss_scales": [1.0],
    "optimizer": "adamw",
}


def test_scenes_take_their_classes_in_turn_and_do_not_depend_on_their_number():
    images, labels = named_scenes(3, 6)
    assert labels.tolist() == [0, 1, 2, 3, 4, 5]
    assert np.array_equal(images[4], named_scene(3, 4)[0])
    assert named_scene(3, len(CLASSES) + 2)[1] == 2


def test_augmented_images_are_shifted_copies_in_the_segmentors_normalisation():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    for seed in range(8):
        batch = augmented(images, np.array([1]), np.random.default_rng(seed), pad=2)
        pixels = batch[0].permute(1, 2, 0).numpy() * np.array(STD) + np.array(MEAN)
        inner = np.rint(pixels[4:12, 4:12]).astype(np.uint8)
        windows = [
            image[y : y + 8, x : x + 8]
            for image in (images[1], images[1][:, ::-1])
            for y in range(2, 7)
            for x in range(2, 7)
        ]
        assert any(np.array_equal(inner, window) for window in windows)


def test_a_backbone_learns_and_starts_a_segmentor(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(32) % 2
    images = rng.integers(0, 90, (32, 32, 32, 3), np.uint8)
    images[labels == 1] += 120
    settings = read_segmentor(SETTINGS | {"batch": 16, "iterations": 30, "lr": 0.01})
    accuracy = train_classifier(settings, images, labels, 2, tmp_path / "weights.safetensors")
    assert accuracy > 0.9
    model = build_model(read_segmentor(SETTINGS), 21)
    load_pretrained(model, str(tmp_path / "weights.safetensors"))
    written = load_file(tmp_path / "weights.safetensors")
    torch.testing.assert_close(model.backbone.state_dict()["conv1.weight"], written["conv1.weight"])


def test_a_batch_needs_as_many_scenes(tmp_path):
    with pytest.raises(UserError, match="one batch of 64"):
        main(["--scenes", "10", "--output", str(tmp_path / "w.safetensors")])
