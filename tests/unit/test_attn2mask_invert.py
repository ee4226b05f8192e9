"""Null-text inversion on a tiny random Stable Diffusion."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler

from attnseg.attn2mask import invert as inv
from attnseg.backbones import load_backbone
from attnseg.settings import InversionJob
from attnseg.text2mask.attention import attention_maps

TEXTS = ["a photo including dog and cat.", "a photo including sheep."]
POSITIONS = [[[4], [6]], [[4, 5]]]
SHORT = InversionJob(steps=6)


@pytest.fixture(scope="module")
def backbone(tiny_sd):
    """A random U-Net's answer to a small change of its input is wild; a trained one's is not."""
    backbone = load_backbone(tiny_sd, device="cpu")
    backbone.unet.conv_out.weight.data *= 0.2
    return backbone


@pytest.fixture(scope="module")
def latents(backbone) -> torch.Tensor:
    """Encoded smooth pictures."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.uniform(-1, 1, (2, 3, 4, 4))).float()
    pixels = torch.nn.functional.interpolate(coarse, (64, 64), mode="bicubic").clamp(-1, 1)
    return backbone.encode_images(pixels).latents()


@pytest.fixture(scope="module")
def null_texts() -> list[torch.Tensor]:
    """The embeddings that the inversion of `tuned` tunes, one [B, L, D] a step."""
    return []


@pytest.fixture(scope="module")
def tuned(backbone, latents, null_texts):
    original = inv.tuned_null_text

    def kept(*arguments) -> torch.Tensor:
        null = original(*arguments)
        null_texts.append(null.hidden)
        return null

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inv, "tuned_null_text", kept)
        return inv.invert(backbone, latents, TEXTS, POSITIONS, SHORT)


def test_tuned_null_texts_rebuild_the_photo_better_than_plain_inversion(backbone, latents, tuned):
    plain_settings = InversionJob(steps=SHORT.steps, inner_iterations=0)
    plain = inv.invert(backbone, latents, TEXTS, POSITIONS, plain_settings)
    photo = torch.from_numpy(backbone.decode(latents))
    better, worse = (
        inv.psnr(torch.from_numpy(backbone.decode(run.latents[-1])), photo)
        for run in (tuned, plain)
    )
    assert (better > worse + 1).all(), (better, worse)


def test_a_step_is_the_formula_of_ddim_in_both_directions(backbone, latents):
    ddim, inverse = inv.ddim_schedulers(backbone.scheduler, 10)
    alpha_bar = backbone.scheduler.alphas_cumprod
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    assert ddim.timesteps.tolist() == inverse.timesteps.tolist()[::-1]

    def moved(start: int, end: int) -> torch.Tensor:
        a, b = alpha_bar[max(start, 0)], alpha_bar[max(end, 0)]
        clean = (latents - (1 - a).sqrt() * noise) / a.sqrt()
        return b.sqrt() * clean + (1 - b).sqrt() * noise

    for t in ddim.timesteps.tolist():
        for stock, (start, end) in ((ddim, (t, t - 100)), (inverse, (t - 100, t))):
            found = stock.step(noise, t, latents).prev_sample
            torch.testing.assert_close(found, moved(start, end), rtol=1e-4, atol=1e-5)


def test_without_guidance_the_pivot_is_nearly_met(backbone, latents):
    settings = InversionJob(steps=SHORT.steps, inner_iterations=0, guidance=1.0)
    run = inv.invert(backbone, latents, TEXTS, POSITIONS, settings)
    guided = inv.invert(
        backbone, latents, TEXTS, POSITIONS, InversionJob(steps=SHORT.steps, inner_iterations=0)
    )
    near = (run.latents[-1] - latents).square().mean()
    assert near < 0.5 * (guided.latents[-1] - latents).square().mean()


@torch.no_grad()
def guided_sampling(backbone, latents, text, null_texts, steps: int) -> list[torch.Tensor]:
    """diffusers' DDIM under guidance with one null embedding a step: steps + 1 of [B, C, h, w]."""
    stock = DDIMScheduler.from_config(backbone.scheduler.config, clip_sample=False)
    stock.set_timesteps(steps)
    trajectory = [latents]
    for t, null in zip(stock.timesteps, null_texts, strict=True):
        without, given = backbone.unet(
            latents.repeat(2, 1, 1, 1), t, encoder_hidden_states=torch.cat([null, text])
        ).sample.chunk(2)
        noise = without + SHORT.guidance * (given - without)
        latents = stock.step(noise, t, latents, eta=0.0).prev_sample
        trajectory.append(latents)
    return trajectory


def test_the_tuned_embeddings_give_the_trajectory_again(backbone, tuned, null_texts):
    text = backbone.encode_text(TEXTS).hidden
    again = guided_sampling(backbone, tuned.latents[0], text, null_texts, SHORT.steps)
    assert len(again) == SHORT.steps + 1
    for one, other in zip(again, tuned.latents, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_attention_is_read_at_the_step_nearest_the_generations(backbone, tuned):
    timesteps = inv.ddim_schedulers(backbone.scheduler, SHORT.steps)[0].timesteps.tolist()
    assert timesteps == [831, 665, 499, 333, 167, 1]
    assert inv.nearest_timestep(timesteps, SHORT.timestep) == 2
    expected = attention_maps(
        backbone, tuned.latents[2], 499, backbone.encode_text(TEXTS), POSITIONS,
        cross_blocks=range(16), self_block=13,
    )  # fmt: skip
    for row, maps in enumerate(expected):
        torch.testing.assert_close(
            tuned.cross[row, : len(maps.cross)], maps.cross, rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize(
    ("timesteps", "index"), [([981, 501, 21], 1), ([951, 551, 451, 51], 1), ([1], 0)]
)
def test_nearest_timestep_prefers_the_noisier_of_two(timesteps, index):
    assert inv.nearest_timestep(timesteps, 501) == index


def test_a_photo_does_not_depend_on_its_neighbours(backbone, latents, tuned):
    alone = inv.invert(backbone, latents[1:], TEXTS[1:], POSITIONS[1:], SHORT)
    torch.testing.assert_close(alone.latents[-1][0], tuned.latents[-1][1], rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(alone.cross[0], tuned.cross[1, :1], rtol=1e-2, atol=1e-5)


def test_a_step_stops_once_within_its_tolerance(backbone, latents, monkeypatch):
    loose = InversionJob(steps=3, inner_iterations=5)
    monkeypatch.setattr(inv, "TOLERANCE", 1e6)
    calls = []
    handle = backbone.unet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        inv.invert(backbone, latents, TEXTS, POSITIONS, loose)
    finally:
        handle.remove()
    # inversion, and a step: conditional, one inner iteration, tuned unconditional
    assert len(calls) == 3 + 3 * 3


def test_psnr_is_the_formula():
    a = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    b = torch.full((1, 4, 4, 3), 16, dtype=torch.uint8)
    assert inv.psnr(a, b).item() == pytest.approx(20 * np.log10(255 / 16))
