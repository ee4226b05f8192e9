"""The miniature MM-DiT: what is trained, that a training resumes, and the folder it is saved as."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest
import torch

from attnseg.backbones import load_backbone
from attnseg.backbones.stable_diffusion_3 import StableDiffusion3
from attnseg.errors import Ended
from attnseg.mini import mmdit, training
from attnseg.mini.card import save_with_card
from attnseg.mini.world.captions import caption
from attnseg.mini.world.splits import voc_scene

SHIPPED = "assets/mini_sd"


@pytest.fixture(scope="module")
def shipped():
    return load_backbone(SHIPPED, device="cpu")


@pytest.fixture
def recipe(shipped):
    torch.manual_seed(0)
    return mmdit.mmdit_recipe(mmdit.assembled(shipped, mmdit.new_transformer()))


def run(recipe, folder, steps, stop=None, every=1):
    """Train on random latents and tokens, in steps of 4; `stop` ends the run after this many."""
    rng = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 16, 8, 16, 16, generator=rng)
    tokens = torch.randint(400, (16, 2, mmdit.WINDOW), generator=rng)
    folder.mkdir(exist_ok=True)

    def log(line):
        if stop is not None and line.startswith(f"step {stop + 1}/"):
            raise KeyboardInterrupt

    return training.train_denoiser(
        dataclasses.replace(recipe, batch=4), latents, tokens, tokens[0, 0], steps, folder, "cpu",
        lambda: {"cross_all": 1.0}, log, evaluate_every=2, checkpoint_every=every,
    )  # fmt: skip


def weights(recipe):
    return torch.cat([w.detach().flatten() for w in recipe.trained[0].parameters()])


def test_it_starts_as_no_velocity_and_learns_by_the_error_of_the_velocity(recipe):
    clean, noise = torch.randn(2, 3, 8, 16, 16, generator=torch.Generator().manual_seed(0))
    words = torch.randint(400, (3, mmdit.WINDOW))
    error, weight = recipe.loss(clean, noise, words, torch.Generator().manual_seed(0))
    expected = (noise - clean).square().mean((1, 2, 3))
    assert torch.allclose(error, expected, rtol=1e-4) and bool((weight == 1).all())


def test_plain_joint_attention_is_diffusers_own(recipe):
    transformer = recipe.trained[0]
    for name, weight in transformer.named_parameters():  # the identity would hide the attention
        if mmdit.modulates(name) or name.startswith("proj_out"):
            torch.nn.init.normal_(weight, std=0.05)
    rng = torch.Generator().manual_seed(0)
    given = {
        "hidden_states": torch.randn(2, 8, 16, 16, generator=rng),
        "encoder_hidden_states": torch.randn(2, mmdit.WINDOW, 128, generator=rng),
        "pooled_projections": torch.randn(2, 128, generator=rng),
        "timestep": torch.tensor([100.0, 700.0]),
    }
    found = []
    for processor in (recipe.usual, recipe.plain):
        transformer.set_attn_processor(processor)
        found.append(transformer(**given).sample.detach())
    assert found[0].std() > 0.1
    assert torch.allclose(*found, atol=1e-5)


def test_an_interrupted_training_ends_with_the_weights_of_one_in_a_piece(shipped, recipe, tmp_path):
    whole = run(recipe, tmp_path / "whole", 4)
    torch.manual_seed(0)
    again = mmdit.mmdit_recipe(mmdit.assembled(shipped, mmdit.new_transformer()))
    with pytest.raises(KeyboardInterrupt):
        run(again, tmp_path / "parts", 4, stop=2)
    torch.manual_seed(0)
    again = mmdit.mmdit_recipe(mmdit.assembled(shipped, mmdit.new_transformer()))
    history = run(again, tmp_path / "parts", 4)
    assert torch.equal(weights(recipe), weights(again))
    assert [record["step"] for record in history] == [record["step"] for record in whole] == [2, 4]
    assert [record["loss"] for record in history] == [record["loss"] for record in whole]


def test_sigterm_ends_a_training_after_its_step_with_a_checkpoint(recipe, tmp_path):
    loss, steps = recipe.loss, []

    def loss_of_a_step(*args):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return loss(*args)

    counted = dataclasses.replace(recipe, loss=loss_of_a_step)
    with pytest.raises(Ended):
        run(counted, tmp_path, 5, every=5)
    assert len(steps) == 3
    run(counted, tmp_path, 5, every=5)
    assert len(steps) == 5


def test_the_pooled_text_is_the_shipped_encoder_s_at_the_end(shipped, recipe):
    text = "a photo of a dog"
    end = len(shipped.tokenizer(text).input_ids) - 1
    expected = shipped.encode_text([text]).hidden[0, end]
    found = recipe.backbone.encode_text([text]).more["pooled"][0]
    assert torch.allclose(found, expected, atol=1e-5)


def test_muon_moves_the_matrices_of_blocks_and_adamw_all_others(recipe):
    named = dict(recipe.trained[0].named_parameters())
    muon, adamw = recipe.optimizers({f"0.{name}": weight for name, weight in named.items()})
    moved = [{id(w) for group in o.param_groups for w in group["params"]} for o in (muon, adamw)]
    assert not moved[0] & moved[1] and len(moved[0]) + len(moved[1]) == len(named)
    assert id(named["transformer_blocks.0.attn.to_q.weight"]) in moved[0]
    assert id(named["transformer_blocks.0.norm1.linear.weight"]) in moved[1]


def test_a_training_is_saved_as_a_folder_of_its_family(recipe, tmp_path):
    history = [
        {"step": step, "loss": 1.0, **dict.fromkeys([*mmdit.COLUMNS][2:], float(step))}
        for step in (1, 2)
    ]
    facts = {"scenes": 3, "steps": 2, "batch": 4, "rate": 0.001, "hours": 0.1, "machine": "a CPU"}
    output = tmp_path / "mini_mmdit"
    save_with_card(recipe, history, facts | {"command": "make ship-mini FAMILY=mmdit"}, output)
    assert sum(file.stat().st_size for file in output.rglob("*")) < 12e6
    assert json.loads((output / "training.json").read_text()) == history
    assert "| 2 | 1.000 |" in (output / "README.md").read_text()
    found = load_backbone(output, device="cpu")
    assert isinstance(found, StableDiffusion3) and len(found.blocks) == mmdit.BLOCKS
    text = found.encode_text([caption(np.random.default_rng(0), voc_scene(0, "dev", 0))])
    assert text.hidden.shape == (1, mmdit.WINDOW, 128)  # CLIP's tokens alone
