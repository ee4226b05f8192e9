"""NaN and infinity, put in at each program's seam: one line with the sample, and nothing of it is written."""

import contextlib
import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_attn2mask_generate import PROMPTS, SHORT
from test_attn2mask_lora import trained as train_lora
from test_custom_diffusion import SETTINGS, concept, photos  # noqa: F401  a fixture
from test_mini_mmdit import SHIPPED
from test_mini_mmdit import run as train_mini
from tiny_segmentor import CLASSES, TINY

from attnseg.attn2mask import generate as generation
from attnseg.attn2mask import invert as inversion
from attnseg.attn2mask.labelling import synthetic_mask
from attnseg.backbones import load_backbone
from attnseg.core.clusters import cbp_scores
from attnseg.core.geometry import own_fit
from attnseg.datasets import load
from attnseg.errors import UserError
from attnseg.io.files import parameters_hash, sealed, sha256, write_json
from attnseg.io.shard_parts import build_shard
from attnseg.io.shards import problem_with, read_arrays, write_shard
from attnseg.io.tensors import read_checkpoint
from attnseg.mini import mmdit, training
from attnseg.mini.model import new_autoencoder
from attnseg.personalised import custom_diffusion
from attnseg.personalised.predictions import read_rows, write_rows
from attnseg.results.iou import write_metrics
from attnseg.segmentation import checkpoints, hooks, predict
from attnseg.segmentation.pretraining import train_classifier
from attnseg.segmentation.train import train
from attnseg.settings import (
    ClassImagesJob,
    InversionJob,
    LabellingJob,
    RefinementJob,
    TestJob,
    read_segmentor,
    read_settings,
)
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.options import Options
from attnseg.text2mask.refine import refine

pytestmark = pytest.mark.usefixtures("one_thread")
STRANGE = [float("nan"), float("inf"), -float("inf")]


@contextlib.contextmanager
def changed(weight: torch.Tensor, value: float):
    """A network's weight with a value that is none."""
    kept = weight.detach().clone()
    weight.data.view(-1)[0] = value
    try:
        yield
    finally:
        weight.data.copy_(kept)


@contextlib.contextmanager
def refused(pattern: str):
    with pytest.raises(UserError, match=pattern) as error:
        yield
    assert "\n" not in str(error.value)


# -- attention


@pytest.mark.parametrize("profile", ["paper", "official"])
@pytest.mark.parametrize("value", STRANGE)
def test_latents_or_attention_of_a_photo(tiny_backbone, monkeypatch, value, profile):
    rng = np.random.default_rng(0)
    samples = [Sample(n, rng.integers(0, 256, (64, 64, 3), np.uint8), ["dog"]) for n in "ab"]
    options = Options(noises=1, resize="none", profile=profile, box_threshold=0.5)
    encode = tiny_backbone.encode_images

    def broken(pixels):
        posterior = encode(pixels)
        posterior.mean[1, 0, 0, 0] = value
        return posterior

    monkeypatch.setattr(type(tiny_backbone), "encode_images", lambda self, pixels: broken(pixels))
    with refused("image b: the attention is not finite"):
        extract(tiny_backbone, samples, options)


@pytest.mark.parametrize("at", ["latents", "maps", "pixels"])
def test_a_generated_sample(tiny_backbone, monkeypatch, tmp_path, at):
    original, made = generation.sample_latents, []

    def sampled(*args):
        latents, maps = original(*args)
        made.append(args[1][0].id)
        if at != "pixels" and made[-1] == "p2":
            (latents if at == "latents" else maps)[0, 0, 0, 0] = torch.inf
        return latents, maps

    monkeypatch.setattr(generation, "sample_latents", sampled)

    def work(batch):
        (results,) = generation.generate(tiny_backbone, batch, SHORT, 1)
        return generation.save_images(results, tmp_path, "png")

    shard = tmp_path / "attention" / "shard-00000.safetensors"
    bias = tiny_backbone.vae.decoder.conv_out.bias
    with (
        changed(bias, torch.nan) if at == "pixels" else contextlib.nullcontext(),
        refused(
            "^p1: image 1 of 1: what the decoder"
            if at == "pixels"
            else "^p2: the latents and attention"
        ),
    ):
        build_shard(shard, PROMPTS, work, {}, 1)
    assert not shard.exists() and not (tmp_path / "p2.png").exists()
    if at != "pixels":  # what was finished is kept
        made.clear()
        monkeypatch.setattr(generation, "sample_latents", original)
        assert build_shard(shard, PROMPTS, work, {}, 1)[1] == len(PROMPTS) - 1


def test_an_inverted_photo(tiny_sd, monkeypatch):
    backbone, original = load_backbone(tiny_sd, device="cpu"), inversion.invert

    def broken(*args):
        result = original(*args)
        result.latents[-1][1, 0, 0, 0] = torch.nan
        return result

    monkeypatch.setattr(inversion, "invert", broken)
    items = [{"id": name, "classes": ["dog"], "skipped": []} for name in "abc"]
    images = [np.full((64, 64, 3), 40 * i, np.uint8) for i in range(3)]
    with refused("^b: the latents and attention are not finite"):
        inversion.inverted(
            backbone, images, items, InversionJob(steps=2, inner_iterations=1), load("voc")
        )


def test_an_image_of_a_class(tiny_sd, tmp_path):
    """It would be black, with a warning of numpy's alone."""
    backbone = load_backbone(tiny_sd, device="cpu")
    backbone.unet.conv_out.bias.data[0] = torch.nan
    settings = ClassImagesJob(size=64)
    with refused("generated-00000.png: the image is not finite"):
        custom_diffusion.regularisation_images(
            backbone, "cat", tmp_path, 1, settings, steps=2, log=lambda line: None
        )
    assert not list(tmp_path.glob("*.png"))


def test_a_shard_neither_takes_nor_gives_them(tmp_path):
    good, path = torch.zeros(1, 2, 2).half(), tmp_path / "shard-00000.safetensors"
    bad = torch.tensor([[[0, torch.inf], [0, 1]]]).half()
    item = {"id": "a/b", "classes": ["dog"], "skipped": []}
    with refused("shard-00000.safetensors: not written: a/b/cross is not finite"):
        write_shard(path, {"c/cross": good, "a/b/cross": bad}, [item], {})
    assert not list(tmp_path.iterdir())
    # as an earlier release wrote it
    save_file({"a/b/cross": bad}, path)
    manifest = {"sha256": sha256(path), "parameters_hash": parameters_hash({}), "items": [item]}
    write_json(path.with_suffix(".json"), sealed(manifest))
    assert problem_with(path) is None
    with refused("a/b: its cross is not finite; removed, so that"):
        list(read_arrays(tmp_path))
    assert not path.exists()


# -- trainings


def broken_loss(monkeypatch, module, step: int, value: float = torch.nan):
    """The loss of the step, counted from 0, is no number."""
    original, calls = module.batch_loss, []

    def loss(*args):
        calls.append(args)
        return original(*args) * (value if len(calls) == step + 1 else 1)

    monkeypatch.setattr(module, "batch_loss", loss)


@pytest.mark.parametrize("value", STRANGE)
def test_the_loss_of_a_lora(tiny_sd, tmp_path, monkeypatch, value):
    from attnseg.backbones import finetuning

    broken_loss(monkeypatch, finetuning, 2, value)
    with refused("the loss is not finite at step 3"):
        train_lora(tiny_sd, tmp_path, checkpoint_every=1)
    kept = read_checkpoint(tmp_path / "checkpoint.pt")
    assert len(kept["losses"]) == 2 and all(w.isfinite().all() for w in kept["weights"])
    assert not (tmp_path / "lora.safetensors").exists()


def test_weights_that_a_finite_loss_broke_become_no_checkpoint(tiny_sd, tmp_path, monkeypatch):
    step, steps = torch.optim.AdamW.step, []

    def broken(self, *args, **more):
        step(self, *args, **more)
        steps.append(self)
        if len(steps) == 4:  # the last: no loss comes after it
            self.param_groups[0]["params"][0].data[0, 0] = torch.nan

    monkeypatch.setattr(torch.optim.AdamW, "step", broken)
    with refused("the weights are not finite after step 4"):
        train_lora(tiny_sd, tmp_path, checkpoint_every=1)
    assert len(read_checkpoint(tmp_path / "checkpoint.pt")["losses"]) == 3


@pytest.mark.parametrize("augment", [False, True])
def test_a_photo_of_a_subject(tiny_sd, photos, tmp_path, augment):  # noqa: F811
    backbone = load_backbone(tiny_sd, device="cpu")
    subject = concept(photos)
    bad = next(weight for weight in backbone.vae.encoder.parameters())
    with changed(bad, torch.nan), refused(r"/\d\.png: the latents are not finite"):
        custom_diffusion.train(
            backbone, [subject], SETTINGS.but(augment=augment), tmp_path / "checkpoint.pt"
        )


@pytest.mark.parametrize("learner", ["supervised", "beco"])
def test_the_weights_of_a_segmentor(tiny_pairs, tmp_path, monkeypatch, learner):
    """They become NaN long before the next look at the loss; the checkpoint before is kept."""
    seed = hooks.SeedEachIteration.before_train_iter

    def broken(self, runner, batch_idx, data_batch=None):
        seed(self, runner, batch_idx, data_batch)
        if batch_idx == 5:
            next(runner.model.parameters()).data.fill_(torch.nan)

    settings = TINY | {"iterations": 100, "checkpoint_interval": 4, "learner": learner}
    output = tmp_path / "weights.safetensors"
    with monkeypatch.context() as patch:
        patch.setattr(hooks.SeedEachIteration, "before_train_iter", broken)
        patch.setattr(hooks.Progress, "mean_loss", lambda self, done: 0.0)
        with refused("the weights are not finite after iteration 8; lower `lr`"):
            train(read_segmentor(settings), tiny_pairs, CLASSES, output)
    (folder,) = tmp_path.glob("training-*")
    assert checkpoints.newest(folder).name == "iter_4.pth" and not output.exists()


def test_the_last_update_of_a_segmentor(tiny_pairs, tmp_path, monkeypatch):
    def broken(self, runner):
        next(runner.model.parameters()).data.fill_(torch.nan)

    monkeypatch.setattr(hooks.Progress, "after_train", broken)
    output = tmp_path / "weights.safetensors"
    with refused("the weights are not finite at the end"):
        train(read_segmentor(TINY | {"iterations": 2}), tiny_pairs, CLASSES, output)
    assert not output.exists()


def test_the_scores_of_a_photo(tiny_weights, tiny_pairs, tmp_path, monkeypatch):
    """They would be a photo without any class that is likely somewhere, and a traceback."""
    original, seen = predict.merged_logits, []

    def broken(model, photos, *args):  # noqa: F811
        logits = original(model, photos, *args).clone()
        seen.append(len(photos))
        if len(seen) == 3:
            logits[0, :, 1, 1] = torch.nan
        return logits

    monkeypatch.setattr(predict, "merged_logits", broken)
    with refused(f"^{tiny_pairs.ids[2]}: the scores are not finite"):
        predict.write_scores(tmp_path, tiny_pairs, tiny_weights, TestJob(crf=None), "cpu", size=2)
    assert [path.name for path in sorted(tmp_path.glob("*.json"))] == ["shard-00000.json"]


def test_a_backbone_of_classification(tmp_path):
    images, labels = np.zeros((8, 32, 32, 3), np.uint8), np.arange(8) % 2
    settings = read_segmentor(TINY | {"batch": 4, "iterations": 4, "lr": 1e30})
    with refused("not finite at the end|the loss is nan at iteration"):
        train_classifier(settings, images, labels, 2, tmp_path / "w.safetensors")
    assert not list(tmp_path.iterdir())


def test_the_miniature_s_denoiser(tmp_path):
    shipped = load_backbone(SHIPPED, device="cpu")
    recipe = mmdit.mmdit_recipe(mmdit.assembled(shipped, mmdit.new_transformer()))
    train_mini(recipe, tmp_path, 2)
    kept = sha256(tmp_path / "denoiser.pt")
    recipe.trained[0].proj_out.bias.data[0] = torch.nan
    with pytest.MonkeyPatch.context() as patch, refused("the loss is nan at step 3; the last"):
        patch.setattr(torch.Tensor, "copy_", lambda self, other: self)  # the checkpoint's weights
        train_mini(recipe, tmp_path, 3)
    assert sha256(tmp_path / "denoiser.pt") == kept


def test_the_miniature_s_autoencoder(tmp_path):
    vae = new_autoencoder()
    vae.decoder.conv_out.bias.data[0] = torch.inf
    images = np.zeros((16, 64, 64, 3), np.uint8)
    with refused("the loss is (nan|inf) at step 1"):
        training.train_autoencoder(vae, images, 1, tmp_path, "cpu", print)
    with refused("vae.pt: not written: the weights are not finite"):
        training.save_checkpoint({}, tmp_path / "vae.pt", vae.parameters())
    assert not list(tmp_path.iterdir())


# -- evaluations


def test_correlations_of_a_triplet(tmp_path):
    path = tmp_path / "dino.safetensors"
    rows = {"one": np.zeros(2), "two": np.array([0.0, np.nan])}
    with refused("^two: the correlations are not finite"):
        write_rows(path, rows, "", {})
    assert not path.exists()
    save_file({name: torch.from_numpy(row) for name, row in rows.items()}, path)
    with refused("dino.safetensors: two: the correlations are not finite"):
        read_rows(path)


def test_a_number_of_a_json_file(tmp_path):
    with refused("metrics.json: not written: a number in it is not finite"):
        write_json(tmp_path / "metrics.json", sealed({"miou": float("nan")}))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", STRANGE)
def test_a_number_of_the_configuration(value):
    with refused("background.threshold"):
        read_settings(RefinementJob, {"background": {"threshold": value}})


# -- nothing is divided by


def test_constant_maps_are_masks_of_background():
    photo = np.full((32, 32, 3), 90, np.uint8)
    flat = generation.cross_map(
        torch.zeros(1, 1, 64, 4), torch.zeros(1, 1, 3, 4), torch.eye(3)[None, :, :2]
    )[0].T.unflatten(1, (8, 8))  # attention that is the same everywhere
    with np.errstate(all="raise"):
        for post in ("none", "crf", "threshold", "otsu"):
            labels, sure = synthetic_mask(photo, flat, LabellingJob(post=post))
            assert not labels.any(), post
        fit = own_fit(32, 32, 8)
        labels, confidence = refine(photo, torch.zeros(2, 8, 8), fit, RefinementJob())
    assert not labels.any() and np.isfinite(confidence).all()
    scores = cbp_scores(torch.full((64, 64), 1 / 64), flat, segments=3)
    assert scores.isfinite().all() and not scores.any()


def test_a_class_without_pixels_leaves_the_mean(tmp_path):
    """By hand: of three classes one is neither there nor predicted, one missed, one half found."""
    tp, fp, fn = (np.array(rows) for rows in ([[4, 2, 0, 0]], [[2, 0, 0, 0]], [[0, 0, 2, 0]]))
    names = ["background", "dog", "cat", "cow"]
    with np.errstate(all="raise"):
        metrics = write_metrics(tmp_path, ["a"], tp, fp, fn, dataset="d", split="s", classes=names)
    assert metrics["iou"] == [pytest.approx(400 / 6), 100.0, 0.0, None]
    assert metrics["miou"] == pytest.approx((400 / 6 + 100 + 0) / 3)
    assert json.loads((tmp_path / "metrics.json").read_text())["iou"][3] is None


def test_a_photo_whose_every_pixel_is_ignored_counts_nothing():
    from attnseg.results.iou import counts, miou, pixel_accuracy

    found = counts(np.ones((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), 3)
    assert not np.any(found)
    nothing = np.zeros((1, 3), np.int64)
    with np.errstate(all="raise"):
        assert np.isnan([miou(*[nothing] * 3), pixel_accuracy(nothing, nothing)]).all()
