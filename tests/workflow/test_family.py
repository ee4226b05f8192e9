"""An own family of models in a configured Python file: from photos to masks and a metric."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
GREY, RED, BLUE = (120, 120, 120), (230, 30, 30), (30, 30, 230)
SIZE, CELL = 64, 8
MASKS = "work/masks/colours/all/base/{}"
METRICS = "work/evaluation/masks/colours/all/base/{}/metrics.json"

# its latents are mean colours, its text encoder knows the colours of words, no network of diffusers
FAMILY = """
import json
import re

import torch
import torch.nn.functional as F

from attnseg.backbones.interface import Attention, Backbone, Block, Posterior, Text


class Attend(torch.nn.Module):
    def forward(self, query, key):
        return F.scaled_dot_product_attention(query[:, None], key[:, None], key[:, None])[:, 0]


class Colours(Backbone):
    size, multiple = (64, 64), 8
    device = dtype = None  # set by `load`
    blocks = {
        Block(0, "cross"): Attention(Attend(), 0),
        Block(0, "self"): Attention(Attend(), 0),
    }

    @classmethod
    def load(cls, folder, name, device, dtype):
        self = cls()
        self.folder, self.name, self.device, self.dtype = folder, name, device, dtype
        self.words = json.loads((folder / "words.json").read_text())
        return self

    def latent_shape(self, size):
        return 3, size[0] // 8, size[1] // 8

    def encode_text(self, texts):
        hidden = torch.zeros(len(texts), 64, 3)
        for row, text in zip(hidden, texts):
            for place, word in enumerate(re.findall(r"\\w+", text)):
                row[place] = torch.tensor(self.words.get(word, [0, 0, 0]))
        return Text(hidden.to(self.device, self.dtype))

    def token_positions(self, query):
        def count(end):
            return len(re.findall(r"\\w+", query.text[:end]))

        return [list(range(count(start), count(end))) for start, end in query.spans]

    def encode_images(self, pixels):
        mean = F.avg_pool2d(pixels, 8)
        return Posterior(mean, torch.zeros_like(mean))

    def add_noise(self, latents, noise, timestep):
        return latents + 0.01 * noise

    def denoise(self, noisy, timestep, text):
        cells = 9 * noisy.to(self.device, self.dtype).flatten(2).transpose(1, 2)
        self.blocks[0, "cross"].module(cells, text.hidden)
        # near colours attend to each other: 2 x y - |y|^2 is |x|^2 - |x - y|^2
        norm = cells.square().sum(-1, keepdim=True)
        query, key = torch.cat([2 * cells, -norm / norm], -1), torch.cat([cells, norm], -1)
        self.blocks[0, "self"].module(query, key)
        return noisy

    def decode(self, latents):
        raise NotImplementedError

    target = pipeline = decode


BACKBONE = Colours
"""


@pytest.fixture
def world(tmp_path) -> dict:
    """Two photos of red and blue things on grey, and a model that knows what these words look like."""
    truth = {name: np.zeros((SIZE, SIZE), np.uint8) for name in "ab"}
    truth["a"][8:40, 16:56] = 1
    truth["b"][32:64, 0:32] = 1
    truth["b"][0:24, 24:64] = 2
    for name, mask in truth.items():
        for kind, picture in (
            ("images", np.array([GREY, RED, BLUE], np.uint8)[mask]),
            ("masks", mask),
        ):
            path = tmp_path / "colours" / kind / "all" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
    (tmp_path / "model").mkdir()
    words = {"red": [1, -1, -1], "blue": [-1, -1, 1]}
    (tmp_path / "model" / "words.json").write_text(json.dumps(words))
    (tmp_path / "my_family.py").write_text(FAMILY)
    return {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "model": {
            "path": "model",
            "revision": None,
            "file": "my_family.py",
            "cross_blocks": [0],
            "self_block": 0,
        },
        "datasets": {
            "colours": {
                "source": "folder",
                "root": "colours",
                "classes": ["red", "blue"],
                "labels": "mask",
                "splits": {"all": {"images": 2}},
            }
        },
        "extraction": {"noises": 2, "resize": "none"},
    }


def miou_by_hand(folder: Path) -> float:
    """The mean over background, red and blue, pixel by pixel."""
    shared, either = [0] * 3, [0] * 3
    for name in "ab":
        masks = (
            folder / MASKS.format("none") / f"{name}.png",
            folder / "colours/masks/all" / f"{name}.png",
        )
        pixels = (np.asarray(Image.open(mask)).ravel().tolist() for mask in masks)
        for prediction, truth in zip(*pixels, strict=True):
            shared[truth] += prediction == truth
            for number in {prediction, truth}:
                either[number] += 1
    return 100 * sum(s / e for s, e in zip(shared, either, strict=True)) / 3


def test_a_family_is_a_file_that_the_configuration_names(world, tmp_path, run_own, job_logs):
    done = run_own(world, METRICS.format("none"))
    assert done.returncode == 0, done.stderr + job_logs()
    metrics = json.loads((tmp_path / METRICS.format("none")).read_text())
    assert metrics["miou"] == pytest.approx(miou_by_hand(tmp_path))
    assert metrics["miou"] > 80  # it knows these colours
    assert metrics["model"] == "model"
    (shard,) = (tmp_path / "work/attention/colours/all/base").glob("shard-*.json")
    assert set(json.loads(shard.read_text())["parameters"]["model"]) == {
        "words.json",
        "BACKBONE of my_family.py",
    }

    # its maps are made again when it changes
    (tmp_path / "my_family.py").write_text(FAMILY.replace("9 * noisy", "-9 * noisy"))
    done = run_own(world, METRICS.format("none"))
    assert done.returncode == 0, done.stderr + job_logs()
    assert json.loads((tmp_path / METRICS.format("none")).read_text())["miou"] < 60


@pytest.mark.parametrize(
    ("family", "set", "used"),
    [
        ("sdxl", {}, {"cross_blocks": [1, 2, 3, 4, 5, 6, 7, 8], "self_block": 9, "timestep": 100}),
        ("sana", {"cross_blocks": [0, 1], "self_block": None}, {"cross_blocks": [0, 1], "self_block": None}),
    ],
)  # fmt: skip
def test_a_family_of_the_package_goes_from_photos_to_a_metric(
    world, tiny_family, tmp_path, run_own, job_logs, family, set, used
):
    folder = tiny_family(family)
    world["model"] = {"path": str(folder), "revision": None, **set}
    done = run_own(world, METRICS.format("none"))
    assert done.returncode == 0, done.stderr + job_logs()
    metrics = json.loads((tmp_path / METRICS.format("none")).read_text())
    assert metrics["miou"] == pytest.approx(miou_by_hand(tmp_path))
    (shard,) = (tmp_path / "work/attention/colours/all/base").glob("shard-*.json")
    parameters = json.loads(shard.read_text())["parameters"]
    assert parameters | used == parameters  # the model's own, where the configuration sets none
    weights = [str(file.relative_to(folder)) for file in folder.rglob("*.safetensors")]
    assert sorted(parameters["model"]) == sorted(weights)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "my_family.py: no such Python file; correct model.file"),
        ("BACKBONE = 3", "my_family.py: it exports no BACKBONE"),
        (FAMILY.replace("target = pipeline = decode", ""), "BACKBONE lacks pipeline, target; "),
    ],
)
def test_a_file_that_is_no_family_is_one_line(tmp_path, text, message):
    from attnseg import load_backbone
    from attnseg.errors import UserError

    if text is not None:
        (tmp_path / "my_family.py").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        load_backbone(tmp_path, device="cpu", file=tmp_path / "my_family.py")
    assert "\n" not in str(error.value)


def test_a_family_of_one_s_own_and_a_revision_are_one_line(world, tmp_path, run_own):
    del world["model"]["revision"]  # that of the paper's model
    done = run_own(world, "-n")
    assert "`model.revision`: a model of a `file` is read from a folder; write null" in done.stderr
