"""Generation with attention, compared with naive formulas and across batch sizes."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, StableDiffusionPipeline

from attnseg.attn2mask import generate as g
from attnseg.attn2mask.caption_matching import classes_and_spans, mentions
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.backbones.text import encode_text
from attnseg.datasets.voc import DATASET as VOC
from attnseg.errors import UserError
from attnseg.settings import Generation

SHORT = Generation(steps=4, attention_step=2)


def prompt(text: str, seed: int = 0) -> Prompt:
    return Prompt(f"p{seed}", text, *classes_and_spans(mentions(text, VOC.caption_words)), seed)


PROMPTS = [
    prompt("a photo of a dog and a cat", 1),
    prompt("a picture of an aeroplane", 2),
    prompt("a sheep, a horse, and a tv monitor near the sea, a sheep", 3),
]


def flat(batches):
    return [result for batch in batches for result in batch]


def test_attention_is_read_at_the_fiftieth_of_a_hundred_timesteps(tiny_backbone):
    scheduler = g.ddpm_scheduler(tiny_backbone.scheduler, 100)
    assert scheduler.timesteps.tolist() == list(range(991, 0, -10))
    assert Generation().steps == 100
    assert scheduler.timesteps[Generation().attention_step - 1] == 501
    assert not scheduler.config.clip_sample


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_same_seed_and_prompt_give_the_same_image_whatever_the_batch(tiny_backbone, batch_size):
    together = flat(g.generate(tiny_backbone, PROMPTS, SHORT, 3))
    apart = flat(g.generate(tiny_backbone, PROMPTS[::-1], SHORT, batch_size))[::-1]
    for one, other in zip(together, apart, strict=True):
        difference = np.abs(one.image.astype(int) - other.image.astype(int))
        assert difference.max() <= 1
        torch.testing.assert_close(one.cross, other.cross, rtol=1e-4, atol=1e-7)
    assert np.abs(together[0].image.astype(int) - together[1].image).max() > 10


def test_another_seed_gives_another_image(tiny_backbone):
    one, other = flat(g.generate(tiny_backbone, [prompt("a dog", 5), prompt("a dog", 6)], SHORT, 2))
    assert np.abs(one.image.astype(int) - other.image).max() > 10


def test_images_are_those_of_the_stock_pipeline(tiny_sd, tiny_backbone):
    """diffusers' own pipeline with DDPM and one generator draws the same noise."""
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipeline.scheduler = DDPMScheduler.from_config(pipeline.scheduler.config, clip_sample=False)
    pipeline.set_progress_bar_config(disable=True)
    expected = pipeline(
        PROMPTS[0].prompt,
        num_inference_steps=SHORT.steps,
        guidance_scale=SHORT.guidance,
        generator=torch.Generator().manual_seed(PROMPTS[0].seed),
        output_type="np",
    ).images[0]
    (result,) = flat(g.generate(tiny_backbone, PROMPTS[:1], SHORT, 1))
    assert np.abs(result.image - 255 * expected).max() < 1.5


def test_maps_are_the_conditional_cross_attention_of_all_blocks(tiny_backbone):
    """A naive loop: probabilities of diffusers' own method, head by head, block by block."""
    unet = tiny_backbone.unet
    blocks = [
        place.module for block, place in tiny_backbone.blocks.items() if block.role == "cross"
    ]
    assert len(blocks) == 16
    calls = []

    def hook(module, arguments, keywords):
        calls[-1].append((module, arguments[0], keywords["encoder_hidden_states"]))

    handles = [b.register_forward_pre_hook(hook, with_kwargs=True) for b in blocks]
    handles.append(unet.register_forward_pre_hook(lambda *_: calls.append([])))
    try:
        (result,) = flat(g.generate(tiny_backbone, PROMPTS[2:], SHORT, 1))
    finally:
        for handle in handles:
            handle.remove()
    assert len(calls) == SHORT.steps
    positions = g.class_positions(tiny_backbone, PROMPTS[2])
    assert len(positions[0]) > len(positions[1])  # the sheep is named twice
    expected = torch.zeros(3, 16, 16)
    for attention, hidden, text in calls[SHORT.attention_step - 1]:
        query = attention.head_to_batch_dim(attention.to_q(hidden[1:]))
        key = attention.head_to_batch_dim(attention.to_k(text[1:]))
        weights = attention.get_attention_scores(query, key).mean(0)  # [N, L]
        side = int(len(weights) ** 0.5)
        for k, places in enumerate(positions):
            image = weights[:, places].mean(1).reshape(1, 1, side, side)
            grown = F.interpolate(image, (16, 16), mode="bilinear", align_corners=False)
            expected[k] += grown[0, 0] / 16
    torch.testing.assert_close(result.cross, expected, rtol=1e-4, atol=1e-7)


def test_chosen_blocks_give_the_grid_of_the_finest(tiny_backbone):
    sampling = Generation(steps=2, attention_step=1, cross_blocks=[4, 6])
    (result,) = flat(g.generate(tiny_backbone, PROMPTS[:1], sampling, 1))
    assert result.cross.shape == (2, 4, 4)


def test_only_the_attention_step_is_recorded(tiny_backbone, monkeypatch):
    entered = []
    original = type(tiny_backbone).record

    def counted(*args, **kwargs):
        entered.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(type(tiny_backbone), "record", counted)
    flat(g.generate(tiny_backbone, PROMPTS[:1], SHORT, 1))
    assert len(entered) == 1


def test_unusable_prompts_are_skipped_and_the_others_made(tiny_backbone):
    lost = prompt("a" + " and a cat" * 40 + " and a dog", 8)
    prompts = [Prompt("none", "the sky", [], [], 7), lost, PROMPTS[0]]
    results = flat(g.generate(tiny_backbone, prompts, SHORT, 3))
    assert "no class" in results[0].skipped
    assert "window" in results[1].skipped
    assert results[0].image is None and results[2].skipped is None
    (alone,) = flat(g.generate(tiny_backbone, PROMPTS[:1], SHORT, 1))
    assert np.abs(results[2].image.astype(int) - alone.image).max() <= 1


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        (Generation(steps=10, attention_step=11), "attention_step is 11 of 10"),
        (Generation(cross_blocks=[3, 16]), r"\[16\].*0 to 15"),
        (Generation(size=65), "multiples of 32"),
    ],
)
def test_what_the_model_cannot_do_is_one_line(tiny_backbone, sampling, message):
    with pytest.raises(UserError, match=message):
        flat(g.generate(tiny_backbone, PROMPTS, sampling, 3))


def test_text_states_are_the_encoders(tiny_backbone):
    tokens = encode_text(tiny_backbone.tokenizer, ["a dog"])
    with torch.no_grad():
        expected = tiny_backbone.text_encoder(tokens).last_hidden_state
    torch.testing.assert_close(tiny_backbone.encode_text(["a dog"]).hidden, expected)
