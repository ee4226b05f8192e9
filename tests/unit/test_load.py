"""Loading a Stable Diffusion folder: valid ones work, invalid ones give a one-line error."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from attnseg.backbones import load_backbone
from attnseg.backbones.model_files import weight_files, weight_hashes
from attnseg.errors import UserError
from attnseg.io.files import sha256
from attnseg.mini.model import train_tokenizer


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A tiny model in Stable Diffusion's layout, with random weights."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tokenizer = train_tokenizer(["a photo including dog, and cat."] * 50, folder / "tokenizer")
    torch.manual_seed(0)
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=64, projection_dim=16,
        )
    ).save_pretrained(folder / "text_encoder")  # fmt: skip
    AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, norm_num_groups=4,
    ).save_pretrained(folder / "vae")  # fmt: skip
    UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16, attention_head_dim=2,
    ).save_pretrained(folder / "unet")  # fmt: skip
    PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear"
    ).save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture
def folder(original, tmp_path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "model"))


def test_every_part_is_loaded_frozen_in_the_dtype_of_the_device(folder):
    backbone = load_backbone(folder, device="cpu")
    saved = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(backbone.unet.state_dict()[key], saved[key]) for key in saved)
    for network in (backbone.text_encoder, backbone.vae, backbone.unet):
        assert not network.training
        assert all(p.dtype == torch.float32 and not p.requires_grad for p in network.parameters())
    assert isinstance(backbone.scheduler, PNDMScheduler)
    assert len(backbone.scheduler.alphas_cumprod) == 1000
    assert backbone.tokenizer("dog").input_ids[0] == backbone.tokenizer.bos_token_id
    assert (backbone.name, backbone.folder) == (str(folder), folder)
    assert (backbone.device.type, backbone.dtype) == ("cpu", torch.float32)


def test_a_dtype_that_is_asked_for_is_used(folder):
    assert (
        load_backbone(folder, device="cpu", dtype="bfloat16").text_encoder.dtype == torch.bfloat16
    )


@pytest.mark.parametrize("component", ["tokenizer", "text_encoder", "vae", "unet", "scheduler"])
def test_a_missing_component_is_named_with_its_folder(folder, component):
    shutil.rmtree(folder / component)
    with pytest.raises(UserError, match=component) as error:
        load_backbone(folder, device="cpu")
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("component", ["text_encoder", "vae", "unet"])
def test_a_pickle_is_never_read(folder, component):
    (weights,) = weight_files(folder, component)
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(UserError, match=f"{component}/ has only .*a pickle"):
        load_backbone(folder, device="cpu")


@pytest.mark.parametrize("component", ["text_encoder", "vae", "unet"])
def test_a_cut_weight_file_is_named(folder, component):
    (weights,) = weight_files(folder, component)
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"{component}/ cannot be loaded") as error:
        load_backbone(folder, device="cpu")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("component", ["text_encoder", "vae", "unet"])
def test_weights_that_are_not_all_there_are_refused_rather_than_left_random(folder, component):
    (file,) = weight_files(folder, component)
    weights = load_file(file)
    weights.pop(sorted(weights)[0])
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"{component}/ lacks 1 weights"):
        load_backbone(folder, device="cpu")


def test_the_attention_names_of_stable_diffusion_1_4s_autoencoder_are_understood(folder):
    (file,) = weight_files(folder, "vae")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = load_file(file)
    for new, name in old.items():
        for key in [key for key in weights if f".{new}." in key]:
            weights[key.replace(f".{new}.", f".{name}.")] = weights.pop(key)
    before = load_backbone(folder, device="cpu").vae.state_dict()
    save_file(weights, file, metadata={"format": "pt"})
    after = load_backbone(folder, device="cpu").vae.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_key_names_of_stable_diffusion_1_4s_text_encoder_are_understood(folder):
    (file,) = weight_files(folder, "text_encoder")
    before = load_backbone(folder, device="cpu").text_encoder.state_dict()
    weights = {
        key if key.startswith("text_model.") else f"text_model.{key}": value
        for key, value in load_file(file).items()
    }
    weights["text_model.embeddings.position_ids"] = torch.arange(64)[None]
    save_file(weights, file, metadata={"format": "pt"})
    after = load_backbone(folder, device="cpu").text_encoder.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_weights_kept_only_as_a_half_precision_variant_are_found(folder):
    for component in ("text_encoder", "vae", "unet"):
        (file,) = weight_files(folder, component)
        file.rename(file.with_suffix(".fp16.safetensors"))
    assert load_backbone(folder, device="cpu").dtype == torch.float32


def test_full_weights_are_preferred_to_a_variant(folder):
    (file,) = weight_files(folder, "unet")
    shutil.copy(file, file.with_suffix(".fp16.safetensors"))
    assert weight_files(folder, "unet") == [file]


def test_blocks_that_the_unet_does_not_have_are_refused_with_those_it_has(folder):
    backbone = load_backbone(folder, device="cpu")
    assert backbone.select([0, 1], 2) == ([(0, "cross"), (1, "cross")], [(2, "self")])
    with pytest.raises(UserError, match=r"\[16\]: this model has blocks 0 to .*1/2"):
        backbone.select([0], 16)


def test_another_family_is_refused_by_name_and_its_weights_are_not_fetched(folder, monkeypatch):
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "KolorsPipeline"}))
    asked = []

    def fetch(name, *, allow_patterns, **_):
        asked.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    for given in ((folder,), ("some/model", "133a221b")):
        with pytest.raises(UserError, match="KolorsPipeline is not supported; choose .*StableDiff"):
            load_backbone(*given, device="cpu")
    assert asked == ["model_index.json"]


def test_a_folder_without_an_index_is_one_line(folder):
    (folder / "model_index.json").unlink()
    with pytest.raises(UserError, match="no model_index.json"):
        load_backbone(folder, device="cpu")


def test_a_path_that_is_no_folder_needs_a_revision(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_backbone(tmp_path / "nothing", "133a221b", device="cpu")
    with pytest.raises(UserError, match="model.revision"):
        load_backbone("CompVis/stable-diffusion-v1-4", device="cpu")


def test_the_hub_out_of_reach_is_one_line(monkeypatch):
    def refuse(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(UserError, match="not available from the Hugging Face hub") as error:
        load_backbone("some/model", "133a221b", device="cpu")
    assert "\n" not in str(error.value)


def test_only_what_is_read_is_asked_of_the_hub(monkeypatch, original):
    import fnmatch

    asked = {}

    def fetch(name, revision, local_dir, allow_patterns, ignore_patterns):
        asked.update(name=name, revision=revision, allow=allow_patterns, ignore=ignore_patterns)
        return str(original)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert load_backbone("some/model", "133a221b", device="cpu").name == "some/model@133a221b"

    def taken(file):
        return any(fnmatch.fnmatch(file, p) for p in asked["allow"]) and not any(
            fnmatch.fnmatch(file, p) for p in asked["ignore"]
        )

    assert taken("unet/diffusion_pytorch_model.safetensors") and taken("tokenizer/merges.txt")
    assert taken("text_encoder/model.safetensors") and taken("scheduler/scheduler_config.json")
    for file in (
        "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.fp16.safetensors",
        "safety_checker/model.safetensors", "sd-v1-4.ckpt",
    ):  # fmt: skip
        assert not taken(file)


def test_half_precision_is_fetched_where_there_is_nothing_else(monkeypatch, folder):
    """A repository whose U-Net has fp16 weights alone."""
    import fnmatch

    repository = folder.with_name("repository")
    shutil.copytree(folder, repository)
    unet = repository / "unet"
    name = "diffusion_pytorch_model"
    (unet / f"{name}.safetensors").rename(unet / f"{name}.fp16.safetensors")
    fetched = folder.with_name("fetched")

    def fetch(name, revision, local_dir, allow_patterns, ignore_patterns):
        for path in repository.rglob("*"):
            file = path.relative_to(repository).as_posix()
            allowed = any(fnmatch.fnmatch(file, p) for p in allow_patterns)
            if (
                path.is_file()
                and allowed
                and not any(fnmatch.fnmatch(file, p) for p in ignore_patterns)
            ):
                (fetched / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, fetched / file)
        return str(fetched)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    backbone = load_backbone("some/model", "133a221b", device="cpu")
    assert backbone.hashes()["unet/diffusion_pytorch_model.fp16.safetensors"]


def test_hashes_are_those_of_the_weight_files(folder):
    hashes = weight_hashes(folder)
    assert set(hashes) == {
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
    }
    assert all(sha256(folder / file) == value for file, value in hashes.items())


def test_a_wide_u_net_keeps_its_file_s_layout_for_one_pass(tiny_sd, monkeypatch):
    """Which spares a copy of the weights; the prediction is the same."""
    usual = load_backbone(tiny_sd, device="cpu")
    monkeypatch.setattr("attnseg.backbones.stable_diffusion.WIDE", 1)
    wide = load_backbone(tiny_sd, device="cpu")
    weight = wide.unet.mid_block.resnets[0].conv1.weight
    text, noisy = wide.encode_text(["a dog"]), torch.randn(1, 4, 16, 16)
    converted, found = [], []
    with torch.no_grad():
        for _ in range(2):
            found.append(wide.denoise(noisy, 150, text))
            converted.append(weight.is_contiguous(memory_format=torch.channels_last))
        expected = usual.denoise(noisy, 150, text)
    assert converted == [False, True]
    for one in found:
        torch.testing.assert_close(one, expected, atol=1e-5, rtol=1e-4)
    image = torch.rand(1, 3, 64, 64) * 2 - 1
    encoded = [model.encode_images(image).mean for model in (usual, wide)]
    torch.testing.assert_close(*encoded, atol=1e-5, rtol=1e-4)
