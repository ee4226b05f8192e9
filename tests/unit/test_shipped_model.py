"""The miniatures that ship: size, format, and results free of batches and shards."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch

from attnseg.backbones import load_backbone
from attnseg.config.reading import read_config
from attnseg.core.geometry import Fit
from attnseg.mini.evaluation import Dev
from attnseg.mini.world.splits import voc_scene
from attnseg.settings import Bilateral, Crf, RefinementJob
from attnseg.text2mask.attention import attention_maps
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.options import Options
from attnseg.text2mask.refine import refine

ASSETS = Path(__file__).resolve().parents[2] / "assets"
MODEL, MMDIT = ASSETS / "mini_sd", ASSETS / "mini_mmdit"
OPTIONS = Options(cross_blocks=[5, 6], self_block=7, noises=2, resize="none")


@pytest.fixture(scope="module")
def backbone():
    return load_backbone(MODEL, device="cpu")


@pytest.mark.parametrize(("folder", "most"), [(MODEL, 25e6), (MMDIT, 12e6)])
def test_it_is_small_and_holds_no_pickles(folder, most):
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < most
    assert not [path for path in files if path.suffix in (".bin", ".pt", ".ckpt", ".pkl")]
    assert (folder / "README.md").is_file() and (folder / "training.json").is_file()


def test_it_loads_as_a_stable_diffusion_pipeline_and_draws():
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    (image,) = pipeline("a photo of a dog", num_inference_steps=3, generator=generator).images
    assert image.size == (64, 64) and np.asarray(image).std() > 5


def masks(backbone, samples: list[Sample], batch_size: int, shard_size: int) -> np.ndarray:
    """[N, 64, 64] labels, extracted shard by shard."""
    labels = []
    for start in range(0, len(samples), shard_size):
        tensors, items = extract(backbone, samples[start : start + shard_size], OPTIONS, batch_size)
        for sample, item in zip(samples[start:], items, strict=False):
            maps = tensors[f"{sample.id}/selfcross"].float()
            fit = Fit(tuple(item["content"]), tuple(item["padded"]))
            options = RefinementJob(crf=Crf(bilateral=Bilateral(sxy=9.7, srgb=13)))
            labels.append(refine(sample.image, maps, fit, options)[0])
    return np.stack(labels)


def test_masks_do_not_depend_on_batches_or_shards(backbone):
    scenes = [voc_scene(0, "dev", i) for i in range(24)]
    samples = [Sample(f"s{i}", s.image, s.classes()) for i, s in enumerate(scenes) if s.things]
    one = masks(backbone, samples, batch_size=1, shard_size=24)
    many = masks(backbone, samples, batch_size=16, shard_size=7)
    assert (one == many).mean() >= 0.9999


def test_masks_in_bfloat16_are_those_in_float32(backbone):
    half = load_backbone(MODEL, device="cpu", dtype="bfloat16")
    scenes = [voc_scene(0, "dev", i) for i in range(24)]
    samples = [Sample(f"s{i}", s.image, s.classes()) for i, s in enumerate(scenes) if s.things]
    one, other = (masks(model, samples, batch_size=16, shard_size=24) for model in (backbone, half))
    assert 0.99 <= (one == other).mean() < 1


def test_its_default_blocks_are_those_of_the_mini_configuration(backbone):
    assert backbone.default_blocks == (tuple(OPTIONS.cross_blocks), OPTIONS.self_block)


def test_attention_finds_what_is_named(backbone):
    """The right class at most pixels of objects in scenes of several: far above chance."""
    right = total = 0
    for i in range(30):
        scene = voc_scene(0, "dev", i)
        names = scene.classes()
        if len(names) < 2:
            continue
        sample = Sample(str(i), scene.image, names)
        maps = extract(backbone, [sample], OPTIONS)[0][f"{i}/selfcross"].float()
        grown = torch.nn.functional.interpolate(maps[None], (64, 64), mode="bilinear")[0]
        best = grown.argmax(0).numpy()
        for thing in scene.things:
            right += (best[thing.mask] == names.index(thing.name)).sum()
            total += thing.mask.sum()
    assert right / total > 0.6


def test_the_joint_transformer_s_reading_is_the_best_of_its_trials():
    """mini.yaml's blocks and timestep have the mean IoU on dev that stands in its trials."""
    with open(MMDIT / "trials.csv", newline="") as file:
        trials = list(csv.DictReader(file))
    best = max(trials, key=lambda trial: float(trial["miou"]))
    config = read_config("config/config.yaml", "config/mini.yaml")
    chosen = config["backbones"]["joint"] | config["variants"]["joint_two"]
    assert best["cross_blocks"].split() == [str(block) for block in chosen["cross_blocks"]]
    assert int(best["self_block"]) == chosen["self_block"]
    assert int(best["timestep"]) == chosen["timestep"]
    backbone = load_backbone(MMDIT, device="cpu", dtype="float32")
    dev = Dev(backbone, 0, "cpu")
    with torch.no_grad():
        maps = attention_maps(
            backbone, *dev.inputs(chosen["timestep"]), dev.positions,
            cross_blocks=chosen["cross_blocks"], self_block=chosen["self_block"],
        )  # fmt: skip
    assert dev.miou([m.selfcross for m in maps]) == pytest.approx(float(best["miou"]), abs=0.5)
