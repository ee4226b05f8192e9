"""DreamBooth-LoRA on a tiny random Stable Diffusion."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from attnseg.attn2mask import dreambooth_lora as dl
from attnseg.attn2mask.generate import generate
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.backbones import load_backbone
from attnseg.core.seeds import generator_of
from attnseg.errors import UserError
from attnseg.settings import Generation, LoraJob
from attnseg.text2mask.attention import attention_maps

OPTIONS = LoraJob(
    rank=2, alpha=3, text_alpha=5, steps=4, batch_size=2, learning_rate=1e-2, size=64
)  # fmt: skip
PROMPT = "a photo of sks cityscape"


def targets(seed: int = 0, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (64, 80, 3)).astype(np.uint8) for _ in range(count)]


def trained(tiny_sd, folder, options=OPTIONS, class_images=(), **kwargs):
    return trained_model(tiny_sd, folder, options, class_images, **kwargs)[0]


def trained_model(tiny_sd, folder, options=OPTIONS, class_images=(), **kwargs):
    backbone = load_backbone(tiny_sd, device="cpu")
    adapted = dl.train(
        backbone, targets(), list(class_images), options, folder / "checkpoint.pt", **kwargs
    )
    path = folder / "lora.safetensors"
    dl.save_lora(path, backbone, adapted, options)
    return path, backbone


@pytest.fixture(scope="module")
def lora(tiny_sd, tmp_path_factory):
    return trained(tiny_sd, tmp_path_factory.mktemp("lora"))


def maps_of(backbone) -> torch.Tensor:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    text = backbone.encode_text([PROMPT])
    (maps,) = attention_maps(backbone, latents, 150, text, [[[4, 5]]])
    return torch.cat([maps.cross, maps.selfcross])


def test_the_adapter_changes_the_maps_that_are_captured(tiny_sd, lora):
    backbone = load_backbone(tiny_sd, device="cpu")
    before = maps_of(backbone)
    dl.load_lora(backbone, lora)
    after = maps_of(backbone)
    assert after.shape == before.shape and after.isfinite().all()
    assert (after - before).abs().max() > 1e-3 * before.abs().max()


def test_generation_reads_attention_with_the_adapter_active(tiny_sd, lora):
    prompt = Prompt("a", "a photo of sks cityscape", ["sky"], [[[11, 14]]], 3)
    sampling = Generation(steps=3, attention_step=2)
    backbone = load_backbone(tiny_sd, device="cpu")
    ((plain,),) = generate(backbone, [prompt], sampling, 1)
    dl.load_lora(backbone, lora)
    ((adapted,),) = generate(backbone, [prompt], sampling, 1)
    assert adapted.skipped is None
    assert (adapted.cross - plain.cross).abs().max() > 1e-3 * plain.cross.abs().max()
    assert np.abs(adapted.image.astype(int) - plain.image).max() > 0


@torch.no_grad()
def test_maps_and_texts_are_those_of_merged_weights(tiny_sd, lora):
    """Independent of peft's forward: fold B A alpha / rank into the base weights by hand."""
    adapted = load_backbone(tiny_sd, device="cpu")
    dl.load_lora(adapted, lora)
    merged, state = load_backbone(tiny_sd, device="cpu"), load_file(lora)
    changed = set()
    for key, down in state.items():
        if ".down." not in key:
            continue
        network, _, name = key.partition(".")
        up, alpha = state[key.replace(".down.", ".up.")], {"unet": 3, "text_encoder": 5}[network]
        name = name.split(".lora")[0]
        changed.add((network, name.rsplit(".", 1)[1]))
        layer = getattr(merged, network).get_submodule(name)
        layer.weight += alpha / 2 * up @ down
    assert changed == {
        ("unet", "to_q"), ("unet", "to_v"), ("text_encoder", "q_proj"), ("text_encoder", "v_proj")
    }  # fmt: skip
    texts = [backbone.encode_text([PROMPT]).hidden for backbone in (adapted, merged)]
    torch.testing.assert_close(*texts, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(maps_of(adapted), maps_of(merged), rtol=1e-4, atol=1e-6)


def test_the_weights_load_in_the_stock_pipeline(tiny_sd, lora):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    assert pipeline.get_active_adapters()
    backbone = load_backbone(tiny_sd, device="cpu")
    dl.load_lora(backbone, lora)
    text = backbone.encode_text([PROMPT])
    ids = pipeline.tokenizer([PROMPT], padding="max_length", return_tensors="pt").input_ids
    torch.testing.assert_close(pipeline.text_encoder(ids)[0], text.hidden)
    arguments = (torch.randn(1, 4, 16, 16), 150, text, [[[4, 5]]])
    (stock,), (ours,) = (attention_maps(model.unet, *arguments) for model in (pipeline, backbone))
    torch.testing.assert_close(stock.selfcross, ours.selfcross)


def test_training_is_deterministic_and_resumable(tiny_sd, lora, tmp_path):
    class Interrupted(Exception):
        pass

    def stop(step, loss):
        if step == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        trained(tiny_sd, tmp_path, checkpoint_every=2, log=stop)
    steps = []
    resumed = trained(tiny_sd, tmp_path, log=lambda step, loss: steps.append(step))
    assert steps == [3, 4]
    expected, found = load_file(lora), load_file(resumed)
    assert expected.keys() == found.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-7)


def test_a_checkpoint_of_another_training_is_not_taken(tiny_sd, tmp_path):
    trained(tiny_sd, tmp_path)
    steps = []
    options = OPTIONS.but(seed=1, steps=1)
    trained(tiny_sd, tmp_path, options, log=lambda step, loss: steps.append(step))
    assert steps == [1]


def test_a_loaded_adapter_gives_the_texts_maps_and_images_of_the_training(tiny_sd, tmp_path):
    path, model = trained_model(tiny_sd, tmp_path)
    plain, again, partly = (load_backbone(tiny_sd, device="cpu") for _ in range(3))
    dl.load_lora(again, path)
    without = {k: v for k, v in load_file(path).items() if not k.startswith("text_encoder")}
    with safe_open(path, "pt") as file:
        facts = {k: v for k, v in file.metadata().items() if k != dl.DIGEST_KEY}
    save_file(without, tmp_path / "partly.safetensors", facts)
    dl.load_lora(partly, tmp_path / "partly.safetensors")
    prompt = Prompt("a", PROMPT, ["sky"], [[[11, 14]]], 3)
    for backbone, same in ((again, True), (partly, False), (plain, False)):
        ((made,),) = generate(backbone, [prompt], Generation(steps=3, attention_step=2), 1)
        ((true,),) = generate(model, [prompt], Generation(steps=3, attention_step=2), 1)
        with torch.no_grad():
            texts = [b.encode_text([PROMPT]).hidden for b in (backbone, model)]
        pairs = [
            texts,
            (maps_of(backbone), maps_of(model)),
            (made.cross, true.cross),
            (torch.from_numpy(made.image), torch.from_numpy(true.image)),
        ]
        assert [torch.equal(*pair) for pair in pairs] == [same] * len(pairs)


def test_an_adapter_of_which_a_part_is_not_found_is_one_line(tiny_sd, lora, tmp_path):
    state = {
        k.replace("encoder.layers.1", "encoder.layers.9"): v for k, v in load_file(lora).items()
    }
    save_file(state, tmp_path / "renamed.safetensors")
    with pytest.raises(UserError, match="another base model"):
        dl.load_lora(load_backbone(tiny_sd, device="cpu"), tmp_path / "renamed.safetensors")


def test_the_text_encoder_may_be_left_as_it_is(tiny_sd, tmp_path):
    path = trained(tiny_sd, tmp_path, OPTIONS.but(text_encoder=False, steps=2))
    backbone = load_backbone(tiny_sd, device="cpu")
    before = backbone.encode_text([PROMPT]).hidden
    dl.load_lora(backbone, path)
    assert torch.equal(backbone.encode_text([PROMPT]).hidden, before)


def test_the_loss_is_that_of_both_prompts_with_the_prior_s_weight(tiny_sd, tmp_path):
    """The first step's loss, by a few lines: adapters start at zero, so the base model has it."""
    losses, options = [], OPTIONS.but(steps=1, prior_weight=0.5, text_encoder=True)
    images, others = targets(), targets(seed=1)
    model = load_backbone(tiny_sd, device="cpu")
    dl.train(
        model, images, others, options, tmp_path / "c.pt", log=lambda _, loss: losses.append(loss)
    )
    backbone = load_backbone(tiny_sd, device="cpu")
    generator = generator_of(options.seed, "lora", 0)
    latents = torch.cat(
        [dl.batch_latents(backbone, pool, 64, 2, generator) for pool in (images, others)]
    )
    noise = torch.randn(latents.shape, generator=generator)
    t = torch.randint(1000, (4,), generator=generator)
    alpha = backbone.scheduler.alphas_cumprod[t].view(4, 1, 1, 1)
    noisy = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    expected = 0.0
    for row, (prompt, share) in enumerate(
        zip([options.prompt] * 2 + [options.class_prompt] * 2, [0.5] * 2 + [0.25] * 2, strict=True)
    ):
        with torch.no_grad():
            text = backbone.encode_text([prompt])
            found = backbone.denoise(noisy[[row]], t[[row]], text)
        expected += share * float((found - noise[[row]]).square().mean())
    assert losses == [pytest.approx(expected, rel=1e-4)]


def test_a_lora_for_another_base_model_is_one_line(tiny_sd, lora, tmp_path):
    backbone = load_backbone(tiny_sd, device="cpu")
    backbone.unet.conv_in.weight.data += 0.1
    with pytest.raises(UserError, match="another base model"):
        dl.load_lora(backbone, lora)
    unsigned = {name: torch.cat([t, t], 1) if ".down." in name or "lora_A" in name else t
                for name, t in load_file(lora).items()}  # fmt: skip
    save_file(unsigned, tmp_path / "wide.safetensors")
    with pytest.raises(UserError, match="another base model"):
        dl.load_lora(load_backbone(tiny_sd, device="cpu"), tmp_path / "wide.safetensors")


def test_the_base_model_is_known_in_half_precision(tiny_backbone, tiny_sd):
    for dtype in (torch.float16, torch.bfloat16):
        half = load_backbone(tiny_sd, device="cpu", dtype=dtype)
        assert dl.same_base(dl.base_signature(half.unet), tiny_backbone.unet)


def test_a_file_that_is_no_lora_is_one_line(tiny_sd, tmp_path):
    path = tmp_path / "lora.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        dl.load_lora(load_backbone(tiny_sd, device="cpu"), path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(UserError, match="LoRA"):
        dl.load_lora(load_backbone(tiny_sd, device="cpu"), path)


def test_an_unreadable_target_image_is_named(tmp_path):
    Image.new("RGB", (80, 70)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"b\.png: not a readable image"):
        dl.read_targets(dl.target_images([tmp_path]), 64)
    with pytest.raises(UserError, match="no such file or folder"):
        dl.target_images([tmp_path / "absent"])


def test_targets_keep_their_shape_and_are_cropped_inside(tmp_path):
    Image.new("RGB", (400, 200)).save(tmp_path / "wide.png")
    (image,) = dl.read_targets([tmp_path / "wide.png"], 64)
    assert image.shape == (64, 128, 3)
    crop = dl.random_crop(image, 64, torch.Generator().manual_seed(0))
    assert crop.shape == (3, 64, 64) and crop.min() >= -1
