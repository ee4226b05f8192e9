"""DreamBooth-LoRA for a few steps on real photos, with a random tiny Stable Diffusion."""

import pytest
from safetensors.torch import load_file

import train_dreambooth_lora
from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.backbones import load_backbone

pytestmark = pytest.mark.data


@pytest.mark.parametrize(
    ("folder", "prompt", "count"),
    [
        ("cityscapes/leftImg8bit/train", "a photo of sks cityscape", 4),
        ("subjects/dog", "a photo of sks dog", 5),
    ],
)
def test_a_few_steps_on_real_photos(real_data, tiny_sd, tmp_path, capsys, folder, prompt, count):
    output = tmp_path / "lora.safetensors"
    status = train_dreambooth_lora.main(
        [
            "--model", str(tiny_sd), "--images", str(real_data / folder), "--output", str(output),
            "--set", f"prompt={prompt}", "steps=3", "batch_size=2", "rank=2",
            "class_images=2",
            "--device", "cpu",
        ]
    )  # fmt: skip
    assert status == 0
    assert f"{count} target images" in capsys.readouterr().out
    assert any(
        tensor.abs().max() > 0
        for name, tensor in load_file(output).items()
        if "up" in name or "lora_B" in name
    )
    load_lora(load_backbone(tiny_sd, device="cpu"), output)
