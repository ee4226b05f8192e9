"""DeepLabV2 on real VOC photos: a few iterations, then the whole evaluation."""

import json

import numpy as np
import pytest
import torch

from attnseg.errors import run

pytestmark = pytest.mark.data


def test_deeplabv2_trains_and_is_tested_on_real_photos(real_voc, tmp_path):
    import evaluate_segmentor
    import train_segmentor

    settings = {
        "backbone": "resnet18",
        "width": 16,
        "crop": 65,
        "batch": 2,
        "iterations": 3,
        "lr": 0.01,
        "loss_scales": [0.5, 0.75, 1.0],
        "workers": 0,
    }
    weights = tmp_path / "weights.safetensors"
    train = [
        *("--settings", json.dumps(settings), "--root", str(real_voc), "--train-split", "train"),
        *("--output", str(weights), "--device", "cpu"),
    ]
    assert run(lambda: train_segmentor.main(train)) == 0
    from attnseg.datasets.images import read_mask
    from attnseg.datasets.voc import DATASET as voc
    from attnseg.segmentation.model import load_segmentor

    state = load_segmentor(weights)[0].state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())

    # a list of its own: the CRF of a full-size photo takes a second
    ids = voc.read_split(real_voc, "val")[:3]
    copy = tmp_path / "VOC2012"
    copy.mkdir()
    for folder in ("JPEGImages", "SegmentationClassAug"):
        (copy / folder).symlink_to(real_voc / folder)
    (copy / "ImageSets" / "Segmentation").mkdir(parents=True)
    (copy / "ImageSets" / "Segmentation" / "val.txt").write_text("\n".join(ids))
    test = [
        *("--weights", str(weights), "--root", str(copy), "--split", "val", "--device", "cpu"),
        *(
            "--set",
            "scales=[0.5]",
            "flip=false",
            "--processes",
            "2",
            "--output",
            str(tmp_path / "out"),
        ),
    ]
    assert run(lambda: evaluate_segmentor.main(test)) == 0
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n_images"] == 3 and len(metrics["classes"]) == 21
    with np.load(tmp_path / "out" / "per_image.npz") as counted:
        for image_id, tp, fn in zip(*(counted[key] for key in ("ids", "tp", "fn")), strict=True):
            truth = read_mask(voc.mask_path(real_voc, image_id))
            assert tp.sum() + fn.sum() == (truth != 255).sum()
