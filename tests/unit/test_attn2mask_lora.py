"""DreamBooth-LoRA on a tiny random Stable Diffusion."""

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from attnseg.attn2mask import dreambooth_lora as dl
from attnseg.attn2mask.generate import generate
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.backbones import load_backbone
from attnseg.errors import UserError
from attnseg.settings import Generation, LoraJob
from attnseg.text2mask.attention import attention_maps

OPTIONS = LoraJob(rank=2, steps=4, batch_size=2, learning_rate=1e-2, size=64)


def targets(seed: int = 0, count: int = 3) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (64, 80, 3)).astype(np.uint8) for _ in range(count)]


def trained(tiny_sd, folder, options=OPTIONS, class_images=(), **kwargs):
    backbone = load_backbone(tiny_sd, device="cpu")
    adapted = dl.train(
        backbone, targets(), list(class_images), options, folder / "checkpoint.pt", **kwargs
    )
    path = folder / "lora.safetensors"
    dl.save_lora(path, backbone, adapted, options)
    return path


@pytest.fixture(scope="module")
def lora(tiny_sd, tmp_path_factory):
    return trained(tiny_sd, tmp_path_factory.mktemp("lora"))


def maps_of(backbone) -> torch.Tensor:
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    text = backbone.encode_text(["a photo of sks cityscape"])
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


def test_the_captured_queries_are_those_of_merged_weights(tiny_sd, lora):
    """Independent of peft's forward: fold B A into the base weights by hand."""
    adapted = load_backbone(tiny_sd, device="cpu")
    dl.load_lora(adapted, lora)
    merged = load_backbone(tiny_sd, device="cpu")
    state = load_file(lora)
    layers = {k.split(".lora")[0] for k in state}
    for name in layers:
        down, up = (
            next(
                v
                for k, v in state.items()
                if k.startswith(name + ".") and any(e in k for e in ends)
            )
            for ends in ((".down.", "lora_A"), (".up.", "lora_B"))
        )
        layer = merged.unet.get_submodule(name.removeprefix("unet."))
        layer.weight.data += up @ down
    torch.testing.assert_close(maps_of(adapted), maps_of(merged), rtol=1e-4, atol=1e-6)


def test_the_weights_load_in_the_stock_pipeline(tiny_sd, lora):
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipeline.load_lora_weights(lora.parent, weight_name=lora.name)
    assert pipeline.get_active_adapters()
    backbone = load_backbone(tiny_sd, device="cpu")
    dl.load_lora(backbone, lora)
    text = backbone.encode_text(["a photo of sks cityscape"])
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


def test_the_text_encoder_may_be_adapted_too(tiny_sd, tmp_path):
    options = OPTIONS.but(text_encoder=True, steps=2)
    path = trained(tiny_sd, tmp_path, options)
    backbone = load_backbone(tiny_sd, device="cpu")
    before = backbone.encode_text(["a photo of sks cityscape"]).hidden
    dl.load_lora(backbone, path)
    assert (backbone.encode_text(["a photo of sks cityscape"]).hidden - before).abs().max() > 1e-5


def test_prior_preservation_changes_the_training(tiny_sd, lora, tmp_path):
    options = OPTIONS.but(class_prompt="a photo of a cityscape")
    with_prior = load_file(trained(tiny_sd, tmp_path, options, targets(seed=1)))
    without = load_file(lora)
    assert any((with_prior[k] - without[k]).abs().max() > 1e-5 for k in without)


def test_prior_preservation_needs_both_prompt_and_images(tiny_sd, tmp_path):
    with pytest.raises(UserError, match="give both or none"):
        trained(tiny_sd, tmp_path, OPTIONS, targets(seed=1))


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
