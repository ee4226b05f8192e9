"""A canary: each network and each attention of the installed diffusers is read, or left out by name."""

import importlib
import inspect
import pkgutil

import pytest
import torch

from attnseg.backbones import FAMILIES

NETWORKS_LEFT_OUT = {
    "of no family that is written": [
        "AuraFlowTransformer2DModel", "BriaFibo2Transformer2DModel", "BriaFiboTransformer2DModel",
        "BriaTransformer2DModel", "ChromaTransformer2DModel", "CogView3PlusTransformer2DModel",
        "CogView4Transformer2DModel", "DreamLiteTransformer2DModel", "DreamLiteUNetModel",
        "ErnieImageTransformer2DModel", "Flux3Transformer2DModel",
        "GlmImageTransformer2DModel", "HiDreamImageTransformer2DModel",
        "HunyuanDiT2DModel", "HunyuanImageTransformer2DModel", "Ideogram4Transformer2DModel", "Kandinsky3UNet",
        "Krea2Transformer2DModel", "LongCatImageTransformer2DModel", "Lumina2Transformer2DModel",
        "LuminaNextDiT2DModel", "NucleusMoEImageTransformer2DModel", "OmniGenTransformer2DModel", "OvisImageTransformer2DModel",
        "PRXTransformer2DModel", "QwenImage21Transformer2DModel", 
        "StableCascadeUNet",
    ],
    "without a text": ["DiTTransformer2DModel", "UNet1DModel", "UNet2DModel"],
    "of video": [
        "I2VGenXLUNet", "UNet3DConditionModel", "UNetMotionModel", "UNetSpatioTemporalConditionModel",
    ],
    "a part of others": ["DualTransformer2DModel", "Transformer2DModel"],
}  # fmt: skip

ATTENTION_READ = ["Attention", "Flux2Attention", "Flux2ParallelSelfAttention", "FluxAttention"]
ATTENTION_LEFT_OUT = {
    "of no family that is written": [
        "BriaAttention", "BriaFibo2Attention", "BriaFiboAttention", "ErnieImageAttention",
        "Flux3Attention", 
        "HiDreamAttention", "Ideogram4Attention", "JoyImageAttention", "JoyImageEditPlusAttention",
        "Krea2Attention", "LongCatImageAttention", "OvisImageAttention", "PRXAttention",
        "QwenImage21Attention",
    ],
    "of video": [
        "AnyFlowAttention", "Cosmos3PackedMoTAttention", "CosmosAttention", "HeliosAttention",
        "Kandinsky5Attention", "Kandinsky6Attention", "Kandinsky6SRAttention", "LTX2Attention",
        "LTXAttention", "MiniMaxH3Attention", "MochiAttention", "MotifVideoAttention",
        "MotifVideoCrossAttention", "MultiHeadCrossAttention", "SanaWMLTX2Attention",
        "SkyReelsV2Attention", "WanAnimate2Attention", "WanAnimateFaceBlockCrossAttention",
        "WanAttention",
    ],
    "of sound": [
        "AceStepAttention", "AudioDiTAttention", "MiniMaxMusic3Attention",
        "MiniMaxMusic3DepthAttention", "StableAudio3CrossAttention", "StableAudio3SelfAttention",
    ],
    "of proteins": ["RFD4ProteinaPairAttention"],
}  # fmt: skip


@pytest.fixture(scope="module")
def classes() -> list[type]:
    """Modules of torch in the rooms of diffusers where denoisers are."""
    found = {}
    packages = [importlib.import_module(f"diffusers.models.{n}") for n in ("transformers", "unets")]
    names = [
        f"{package.__name__}.{info.name}"
        for package in packages
        for info in pkgutil.iter_modules(package.__path__)
    ]
    for name in [*names, "diffusers.models.attention", "diffusers.models.attention_processor"]:
        for kind in vars(importlib.import_module(name)).values():
            if (
                inspect.isclass(kind)
                and kind.__module__ == name
                and issubclass(kind, torch.nn.Module)
            ):
                found[name, kind.__name__] = kind
    return list(found.values())


def listed(groups: dict[str, list[str]]) -> set[str]:
    names = [name for group in groups.values() for name in group]
    assert len(set(names)) == len(names)
    return set(names)


def test_each_network_is_read_or_left_out(classes):
    found = {
        kind.__name__
        for kind in classes
        if kind.__name__.endswith(("Transformer2DModel", "DiT2DModel"))
        or "UNet" in kind.__name__
        and hasattr(kind, "from_pretrained")
    }
    families = [importlib.import_module(f"attnseg.backbones.{m}") for m, _ in FAMILIES.values()]
    read = {name for name in found if any(hasattr(family, name) for family in families)}
    left_out = listed(NETWORKS_LEFT_OUT)
    assert {"PixArtTransformer2DModel", "SanaTransformer2DModel", "UNet2DConditionModel"} <= read
    assert found - read - left_out == set(), "new in diffusers: write a family, or leave it out"
    assert left_out - found == set(), "no longer in diffusers"
    assert left_out & read == set(), "read by now"


def test_each_attention_with_a_processor_is_read_or_left_out(classes):
    found = {
        kind.__name__
        for kind in classes
        if hasattr(kind, "set_processor")
        or kind.__name__.endswith("Attention")
        and "processor" in inspect.signature(kind.__init__).parameters
    }
    left_out = listed(ATTENTION_LEFT_OUT)
    assert found - left_out - set(ATTENTION_READ) == set(), (
        "new in diffusers: read it, or leave it out"
    )
    assert left_out - found == set(), "no longer in diffusers"
    assert left_out & set(ATTENTION_READ) == set(), "read by now"
