"""`real_voc` beside mmsegmentation's own DeepLabv3+ with a ResNet-50 on VOC, of the installed package.

Its configurations: deeplabv3plus_r50-d8_4xb4-40k_voc12aug-512x512.py, with the data of pascal_voc12.py.
What differs on purpose is listed here, and nothing else may.
"""

import copy
import logging
import random
import subprocess
import sys
from pathlib import Path

import mmseg
import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.registry import MODELS, TRANSFORMS
from mmseg.structures import SegDataSample
from PIL import Image

from attnseg.segmentation import loading
from attnseg.segmentation.data import Pairs
from attnseg.segmentation.model import build_model
from attnseg.segmentation.train import runner_options
from attnseg.settings import read_segmentor

CONFIGS = Path(mmseg.__file__).parent / ".mim/configs"
MODEL = CONFIGS / "deeplabv3plus/deeplabv3plus_r50-d8_4xb4-40k_voc12aug-512x512.py"
DATA = CONFIGS / "_base_/datasets/pascal_voc12.py"
OURS = Path(__file__).parents[2] / "config/config.yaml"

pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason="mmseg without its configurations")


@pytest.fixture(scope="module")
def settings():
    values = yaml.safe_load(OURS.read_text())["segmentors"]["real_voc"]
    return read_segmentor(values)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Pairs:
    """Photos of VOC's sizes, with a box of one class each on a larger background."""
    folder, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    photos, masks = [], []
    for i, (height, width) in enumerate([(375, 500), (500, 333), (120, 500)]):
        noise = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
        Image.fromarray(noise).resize((width, height)).save(folder / f"{i}.png")
        mask = np.zeros((height, width), np.uint8)
        mask[: height // 9] = 255
        mask[height // 4 : 3 * height // 4, width // 3 : width // 2] = 1 + i
        Image.fromarray(mask).save(folder / f"{i}_mask.png")
        photos.append(folder / f"{i}.png")
        masks.append(folder / f"{i}_mask.png")
    return Pairs(["0", "1", "2"], photos, masks)


@pytest.fixture(scope="module")
def options(settings, files):
    classes = ["background", *map(str, range(20))]
    return runner_options(settings, files, classes, Path("unused"), "cpu", files)


@pytest.fixture(scope="module")
def models(settings):
    """(mmsegmentation's, ours), with the same weights."""
    theirs = Config.fromfile(MODEL).model
    theirs.pretrained = None  # its weights are downloaded
    for part in (theirs.backbone, theirs.decode_head, theirs.auxiliary_head):
        part.norm_cfg.type = "BN"  # SyncBN needs GPUs; the Runner converts ours, too
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmseg"):
        theirs = MODELS.build(theirs)
    ours = build_model(settings, 21)
    ours.load_state_dict(theirs.state_dict())  # every name and shape
    return theirs.eval(), ours.eval()


def test_its_modules_are_ours(models):
    described = [
        {name: (type(part).__name__, part.extra_repr()) for name, part in model.named_modules()}
        for model in models
    ]
    assert {d.pop("")[0] for d in described} == {"EncoderDecoder", "Segmentor"}
    assert len(described[0]) > 150
    assert described[0] == described[1]
    theirs, ours = (model.data_preprocessor for model in models)
    for name in ("mean", "std"):
        assert getattr(theirs, name).equal(getattr(ours, name))
    for name in ("size", "_channel_conversion", "pad_val", "seg_pad_val"):
        assert getattr(theirs, name) == getattr(ours, name)


def test_its_logits_and_losses_are_ours(models):
    theirs, ours = models
    torch.manual_seed(1)
    photos, labels = torch.randn(2, 3, 72, 88), torch.randint(0, 21, (2, 1, 72, 88))
    labels[:, :, :30] = 255
    samples = [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels]
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(photos), theirs._forward(photos))
        expected, found = theirs.loss(photos, samples), ours.loss(photos, samples)
    assert expected["decode.loss_ce"].item() == pytest.approx(found["decode.loss"].item(), rel=1e-5)
    assert expected["aux.loss_ce"].item() == pytest.approx(found["aux.loss_ce"].item(), rel=1e-5)


def seeded(transform, results: dict, seed: int) -> dict:
    np.random.seed(seed)
    random.seed(seed)
    return transform(copy.deepcopy(results))


def test_its_training_pipeline_is_ours(options, files):
    """Each transform gets what ours made so far, and the same random numbers."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        pipelines = [
            [TRANSFORMS.build(dict(step)) for step in steps]
            for steps in (
                Config.fromfile(DATA).train_pipeline,
                options["train_dataloader"]["dataset"]["pipeline"],
            )
        ]
    names = [[type(step).__name__ for step in steps] for steps in pipelines]
    renamed = {"ResizeByOneOf": "RandomResize", "LoadPhoto": "LoadImageFromFile"}
    assert names[0] == [renamed.get(name, name) for name in names[1]]
    sizes = set()
    for seed in range(9):
        sample = {
            "img_path": str(files.photos[seed % 3]),
            "seg_map_path": str(files.masks[seed % 3]),
            "label_map": None,
            "reduce_zero_label": False,
            "seg_fields": [],
        }
        for theirs, ours in zip(*pipelines, strict=True):
            expected, sample = seeded(theirs, sample, seed), seeded(ours, sample, seed)
            if type(ours).__name__ == "PackSegInputs":
                assert expected["inputs"].equal(sample["inputs"])
                labels = [s["data_samples"].gt_sem_seg.data for s in (expected, sample)]
                assert labels[0].equal(labels[1])
                break
            np.testing.assert_array_equal(expected["img"], sample["img"])
            if "gt_seg_map" not in sample:
                continue
            if type(ours).__name__ == "ResizeByOneOf":
                sizes.add(sample["img"].shape[:2])
                # the one difference: theirs shifts labels by up to half a pixel against the photo
                assert expected["gt_seg_map"].shape == sample["gt_seg_map"].shape
                assert (expected["gt_seg_map"] == sample["gt_seg_map"]).mean() > 0.98
            else:
                np.testing.assert_array_equal(expected["gt_seg_map"], sample["gt_seg_map"])
    assert len(sizes) == 9 and all(240 < min(size) <= 1024 for size in sizes)


def test_its_test_pipeline_is_ours(options, files):
    theirs = [dict(step) for step in Config.fromfile(DATA).test_pipeline]
    ours = options["val_dataloader"]["dataset"]["pipeline"]
    for step in (theirs, ours):
        step[1]["scale"] = tuple(step[1]["scale"])
    assert (ours[0]["type"], theirs[0]["type"]) == ("LoadPhoto", "LoadImageFromFile")
    assert ours[1:] == theirs[1:]
    with DefaultScope.overwrite_default_scope("mmseg"):
        load, resize = (TRANSFORMS.build(step) for step in theirs[:2])
    for photo in files.photos:  # of predictions, to the pixel
        sample = load({"img_path": str(photo)})
        own = sample["img"].shape[:2]
        assert tuple(loading.resized(own, 512)) == resize(sample)["img"].shape[:2]


def test_its_schedule_is_ours_but_for_what_the_paper_states(options, settings):
    theirs, data = Config.fromfile(MODEL), Config.fromfile(DATA)
    expected = dict(theirs.optim_wrapper.optimizer)
    assert options["optim_wrapper"]["optimizer"] == expected | {"weight_decay": 0.0001}
    (poly,) = theirs.param_scheduler
    # theirs reaches eta_min one iteration before the end
    assert options["param_scheduler"] == [dict(poly) | {"end": poly["end"] + 1}]
    keys = options["optim_wrapper"]["paramwise_cfg"]["custom_keys"]
    assert keys == {"decode_head": {"lr_mult": 1.0}, "auxiliary_head": {"lr_mult": 1.0}}
    assert options["train_cfg"]["max_iters"] == theirs.train_cfg.max_iters
    assert settings.images_per_update == 32  # the paper's; theirs is 4 on each of 4 GPUs
    assert data.train_dataloader.dataset.ann_file.endswith("/train.txt")
    values = yaml.safe_load(OURS.read_text())["segmentors"]["real_voc"]
    assert values["train"] == {"dataset": "voc", "split": "train", "masks": "truth"}
    assert Path(values["pretrained"]).name.startswith(theirs.model.pretrained.split("/")[-1])


@pytest.mark.parametrize("module", ["model", "beco", "train"])
def test_importing_it_prints_nothing(module):
    words = [sys.executable, "-c", f"import attnseg.segmentation.{module}"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_messages_with_a_logger_or_not_for_debugging_are_still_told(capsys):
    from mmengine.logging import print_log

    print_log("a warning", level=logging.WARNING)
    print_log("a message")
    print_log("a detail", level=logging.DEBUG)
    assert capsys.readouterr().out == "a warning\na message\n"
