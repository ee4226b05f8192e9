"""The programming interface: what `attnseg` exports, and the README's example."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attnseg import load_backbone, segment
from attnseg.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[2]


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_loads_torch_only_when_it_is_asked_to():
    code = "import sys, attnseg; print('torch' in sys.modules); from attnseg import attention_maps"
    assert python(code + "; print('torch' in sys.modules)").split() == ["False", "True"]


def test_the_readme_s_example_runs_on_the_shipped_model():
    section = (REPOSITORY / "README.md").read_text().split("## From Python")[1]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    expected = ["(64, 64) (4, 64, 64)", "torch.Size([3, 16, 16]) torch.Size([1, 4, 64, 32])"]
    assert python(code).splitlines() == expected


@pytest.mark.parametrize("crf", [True, False])
def test_labels_are_where_the_scores_are_largest(tiny_backbone, crf):
    photo = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    labels, scores = segment(tiny_backbone, photo, ["dog", "cat"], noises=1, crf=crf)
    assert labels.shape == (48, 80) and labels.dtype == np.uint8
    assert scores.shape == (3, 48, 80) and scores.dtype == np.float32
    assert np.array_equal(labels, scores.argmax(0)) and (labels > 0).any()
    if crf:
        np.testing.assert_allclose(scores.sum(0), 1, atol=1e-4)


def test_a_class_is_named_once(tiny_backbone):
    for classes in ([], ["dog", "dog"]):
        with pytest.raises(UserError, match="each class once"):
            segment(tiny_backbone, np.zeros((64, 64, 3), np.uint8), classes)


def test_noise_is_added_as_the_schedule_says_and_the_target_follows(tiny_sd):
    backbone = load_backbone(tiny_sd, device="cpu")
    generator = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(3, 4, 8, 8, generator=generator) for _ in range(2))
    t = torch.tensor([1, 150, 999])
    abar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    signal, noisy = (a.sqrt()[t].view(3, 1, 1, 1) for a in (abar, 1 - abar))
    torch.testing.assert_close(
        backbone.add_noise(latents, noise, t), signal * latents + noisy * noise
    )
    assert torch.equal(backbone.target(latents, noise, t), noise)
    backbone.noising.register_to_config(prediction_type="v_prediction")
    torch.testing.assert_close(backbone.target(latents, noise, t), signal * noise - noisy * latents)


def test_images_come_back_as_the_autoencoder_has_them(tiny_backbone):
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    posterior = tiny_backbone.encode_images(pixels)
    assert posterior.mean.shape[1:] == tiny_backbone.latent_shape((64, 64))
    sample = posterior.latents(torch.ones_like(posterior.mean))
    torch.testing.assert_close(sample, 4.0 * (posterior.mean + posterior.std))
    with torch.no_grad():
        plain = tiny_backbone.vae.decode(posterior.mean).sample
    expected = (plain.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1).numpy() * 255
    assert np.abs(tiny_backbone.decode(posterior.latents()) - expected).max() <= 0.51
