"""A segmentor's training on a few small images: its data, its recipe, how it resumes and repeats itself."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny_segmentor import CLASSES, TINY, interrupted, training_data

import train_segmentor
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError
from attnseg.segmentation import architecture, hooks, loading
from attnseg.segmentation.data import split_pairs
from attnseg.segmentation.model import build_model, load_segmentor
from attnseg.segmentation.train import train
from attnseg.settings import read_segmentor

pytestmark = pytest.mark.usefixtures("one_thread")


def test_augmented_masks_fit_their_photos(tiny_pairs):
    settings = read_segmentor({**TINY, "photometric": False, "scales": [0.75, 1.0, 1.5]})
    dataset = training_data(settings, tiny_pairs)
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


def test_a_sample_depends_on_its_place_and_on_nothing_before(tiny_pairs):
    dataset = training_data(read_segmentor(TINY), tiny_pairs)
    first = dataset[3, 17]["inputs"]
    np.random.rand(5)
    assert not torch.equal(dataset[3, 18]["inputs"], first)
    assert torch.equal(dataset[3, 17]["inputs"], first)


def test_a_crop_is_a_share_of_the_area_of_photo_and_mask():
    rows, columns = np.mgrid[:90, :120].astype(np.uint8)
    crop, shares = loading.CropByArea((0.5, 0.75), 64), []
    np.random.seed(0)
    for _ in range(300):
        results = {"img": np.dstack([rows, columns]), "gt_seg_map": columns, "seg_fields": ["gt_seg_map"]}  # fmt: skip
        made = crop.transform(results)
        assert made["img"].shape == (64, 64, 2) and made["img_shape"] == (64, 64)
        assert abs(made["img"][..., 1].astype(int) - made["gt_seg_map"]).max() <= 1
        height, width = (np.ptp(made["img"][..., axis]) + 1.0 for axis in (0, 1))
        assert 0.72 < width / height < 1.37
        shares.append(height * width / (90 * 120))
    assert 0.49 < min(shares) < 0.53 and 0.72 < max(shares) < 0.76


def test_learning_rates_follow_the_recipe(tiny_pairs, tmp_path, monkeypatch):
    seen = []

    def record(self, runner, batch_idx, data_batch=None):
        names = {id(parameter): name for name, parameter in runner.model.named_parameters()}
        groups = runner.optim_wrapper.optimizer.param_groups
        seen.append(
            {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
        )
        assert len(seen[-1]) == len(names)

    monkeypatch.setattr(hooks.SeedEachIteration, "before_train_iter", record)
    train(
        read_segmentor({**TINY, "iterations": 4}), tiny_pairs, CLASSES, tmp_path / "w.safetensors"
    )
    assert len(seen) == 4
    for i, rates in enumerate(seen):
        decay = (1 - i / 4) ** 0.9
        for name, (lr, weight_decay) in rates.items():
            head, bias = name.startswith("decode_head"), name.endswith(".bias")
            factor = 1 if not head else 20 if bias else 10
            assert lr == pytest.approx(0.05 * factor * decay), name
            assert weight_decay == (0 if head and bias else 5e-4), name


def test_two_accumulated_batches_update_as_one_of_both(tiny_pairs, tmp_path, monkeypatch):
    """Two passes of two images, one update; with frozen batch norm it is that of all four."""
    values = {**TINY, "batch": 4, "iterations": 2, "scales": [1.0], "photometric": False}
    torch.manual_seed(0)
    torch.save(build_model(read_segmentor(values), 21).backbone.state_dict(), tmp_path / "b.pth")
    values["pretrained"] = str(tmp_path / "b.pth")
    passes = []
    forward = architecture.Segmentor.loss

    def counted(self, inputs, data_samples):
        passes.append(len(inputs))
        return forward(self, inputs, data_samples)

    monkeypatch.setattr(architecture.Segmentor, "loss", counted)
    found = []
    for batch, accumulate in ((4, 1), (2, 2)):
        settings = read_segmentor({**values, "batch": batch, "accumulate": accumulate})
        # padding is unequal among the photos, and a mean over labelled pixels would weigh it
        settings = settings.but(loss="all_pixels")
        path = tmp_path / f"{batch}.safetensors"
        train(settings, tiny_pairs, CLASSES, path)
        found.append(load_segmentor(path)[0].state_dict())
    assert passes == [4, 4, 2, 2, 2, 2]
    for name, one in found[0].items():
        torch.testing.assert_close(found[1][name], one, rtol=1e-4, atol=1e-6)


def test_two_processes_learn_what_one_does(tiny_pairs, tiny_voc, tmp_path):
    """With torchrun and gloo: each sees half of every batch, the update is that of the whole."""
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
            *("--root", str(tiny_voc), "--train-split", "train", "--device", "cpu"),
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


def test_frozen_norm_keeps_its_statistics(tiny_pairs, tmp_path):
    settings = read_segmentor({**TINY, "pretrained": str(tmp_path / "resnet.pth"), "iterations": 2})
    assert settings.norm_is_frozen
    source = build_model(settings, 21).backbone.state_dict()
    torch.save(source, tmp_path / "resnet.pth")
    train(settings, tiny_pairs, CLASSES, tmp_path / "weights.safetensors")
    after = load_segmentor(tmp_path / "weights.safetensors")[0].backbone.state_dict()
    for key, value in source.items():
        is_norm = "bn" in key or "downsample.1" in key
        assert torch.equal(after[key], value) == is_norm, key


def test_an_interrupted_training_resumes_to_the_same_weights(
    tiny_weights, tiny_pairs, tmp_path, capsys
):
    output = tmp_path / "weights.safetensors"
    with interrupted(5):
        train(read_segmentor(TINY), tiny_pairs, CLASSES, output, about={"dataset": "voc"})
    assert not output.exists()
    assert len(list(tmp_path.glob("training-*"))) == 1
    moved = tmp_path.with_name(f"{tmp_path.name} moved")  # as a clone that was renamed
    tmp_path.rename(moved)
    output = moved / "weights.safetensors"
    train(read_segmentor(TINY), tiny_pairs, CLASSES, output, about={"dataset": "voc"})
    assert "resumed after iteration 3" in capsys.readouterr().out
    expected, resumed = (load_segmentor(p)[0].state_dict() for p in (tiny_weights, output))
    assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_other_masks_or_settings_do_not_resume(tiny_pairs, tiny_voc, tmp_path):
    other = tmp_path / "masks"
    shutil.copytree(tiny_voc / "SegmentationClassAug", other)
    (other / "manifest.json").write_text('{"parameters": 1}')
    _, same_files = split_pairs(voc, tiny_voc, "train", other)
    assert same_files.fingerprint() != tiny_pairs.fingerprint()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photo_that_is_damaged_ends_a_training_in_one_line(tiny_voc, tmp_path, workers):
    root = Path(shutil.copytree(tiny_voc, tmp_path / "VOC2012"))
    photo = voc.image_path(root, "2012_000003")
    photo.write_bytes(photo.read_bytes()[:200])
    damaged = split_pairs(voc, root, "train")[1]
    with pytest.raises(UserError, match=rf"^{photo}: not a readable image [^\n]*$"):
        settings = read_segmentor(TINY | {"workers": workers})
        train(settings, damaged, CLASSES, tmp_path / "w.safetensors")


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
    tiny_voc, tmp_path, threads
):
    """With as many threads: sums over a batch, as batch norm's, are split among them."""
    found = []
    for run_number in (1, 2):
        folder = tmp_path / ("elsewhere/" * run_number)
        shutil.copytree(tiny_voc, folder / "VOC2012")
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
