"""Build segmentors; save and load their weights."""

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import torch
from mmengine.registry import DefaultScope
from mmseg.registry import MODELS
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from attnseg.errors import UserError
from attnseg.io.files import write_atomically
from attnseg.segmentation import beco, components  # noqa: F401  registers them
from attnseg.settings import Segmentor, read_segmentor

MEAN = (123.675, 116.28, 103.53)  # ImageNet's, RGB in [0, 255]
STD = (58.395, 57.12, 57.375)


def model_config(settings: Segmentor, classes: int) -> dict:
    """mmseg's configuration of the model; its input is BGR uint8, as mmcv reads it."""
    s = settings
    stem = 4 if s.stem == "imagenet" else 2
    strides, dilations, reached, dilation = [], [], stem, 1
    for stage in range(4):
        stride = 1 if stage == 0 else 2
        if reached * stride > s.output_stride:
            stride, dilation = 1, dilation * 2
        reached *= stride
        strides.append(stride)
        dilations.append(dilation)
    expansion = 1 if s.depth < 50 else 4
    stages = [s.width * expansion * 2**i for i in range(4)]
    norm = {"type": "BN", "requires_grad": not s.norm_is_frozen}
    loss = {"type": "CrossEntropyLoss", "avg_non_ignore": True}
    common = {"num_classes": classes, "align_corners": False}
    if s.architecture == "deeplabv2":
        head = {
            "type": "DeepLabV2Head",
            "in_channels": stages[3],
            "in_index": 3,
            "dilations": s.dilations,
            "loss_decode": loss,
            **common,
        }
    else:
        channels = 8 * s.width  # 512, as in mmseg
        head = {
            "type": "DepthwiseSeparableASPPHead",
            "in_channels": stages[3],
            "in_index": 3,
            "channels": channels,
            "dilations": s.dilations,
            "c1_in_channels": stages[0],
            "c1_channels": max(8, 3 * s.width // 4),  # 48 for a usual ResNet
            "dropout_ratio": 0.1,
            "norm_cfg": {"type": "BN", "requires_grad": True},
            "loss_decode": loss,
            **common,
        }
    auxiliary = s.auxiliary and {
        "type": "FCNHead",
        "in_channels": stages[2],
        "in_index": 2,
        "channels": 4 * s.width,
        "num_convs": 1,
        "concat_input": False,
        "dropout_ratio": 0.1,
        "norm_cfg": {"type": "BN", "requires_grad": True},
        "loss_decode": {**loss, "loss_weight": s.auxiliary},
        **common,
    }
    preprocessor = {
        "type": "SegDataPreProcessor",
        "mean": MEAN,
        "std": STD,
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": components.IGNORED,
        "size": (s.crop, s.crop),
    }
    network = {
        "type": "Segmentor",
        "loss_scales": s.loss_scales,
        "precision": s.precision,
        "backbone": {
            "type": "ResNet" if s.stem == "imagenet" else "SmallImageResNet",
            "depth": s.depth,
            "stem_channels": s.width,
            "base_channels": s.width,
            "strides": strides,
            "dilations": dilations,
            "norm_cfg": norm,
            "norm_eval": s.norm_is_frozen,
        },
        "decode_head": head,
        "auxiliary_head": auxiliary or None,
        "train_cfg": {},
        "test_cfg": {"mode": "whole"},
    }
    if s.learner == "supervised":
        return network | {"data_preprocessor": preprocessor}
    return {
        "type": "Beco",
        "network": network,
        "confidence": s.beco_confidence,
        "mix": s.beco_mix,
        "boundary_size": s.beco_boundary_size,
        "boundary_weight": s.beco_boundary_weight,
        "online_labels": s.beco_online_labels,
        "strong_colour": s.beco_strong_colour,
        "data_preprocessor": preprocessor,
    }


def build_model(settings: Segmentor, classes: int) -> components.Segmentor:
    """The network without weights of its own yet."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MODELS.build(model_config(settings, classes))


def load_pretrained(model: nn.Module, source: str) -> None:
    """Load weights of a backbone, or of a whole segmentor, from a file or an address.

    The backbone must be complete; a head of another shape is skipped. Both networks of BECO get the
    same weights.
    """
    if isinstance(model, beco.Beco):
        for network in model.networks:
            load_pretrained(network, source)
        return
    state = _read_weights(source)
    if not any(key.startswith("backbone.") for key in state):
        state = {f"backbone.{key}": value for key, value in state.items()}
    own = model.state_dict()
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    missing = [
        key
        for key in own
        if key.startswith("backbone.") and key not in fitting and "num_batches" not in key
    ]
    if missing:
        raise UserError(
            f"pretrained weights {source}: {missing[0]} and {len(missing) - 1} more of the backbone "
            "are absent or of another shape; give weights of the same backbone"
        )
    model.load_state_dict(fitting, strict=False)


def _read_weights(source: str) -> Mapping[str, torch.Tensor]:
    if "://" in source:
        try:
            state = torch.hub.load_state_dict_from_url(
                source, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except (OSError, RuntimeError) as problem:
            raise UserError(
                f"pretrained weights {source}: {problem}; download them and give the file"
            ) from None
    else:
        path = Path(source)
        if not path.is_file():
            raise UserError(f"pretrained weights {source}: no such file; correct `pretrained`")
        try:
            if path.suffix == ".safetensors":
                state = load_file(path)
            else:
                state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as problem:  # torch and safetensors raise many types
            raise UserError(f"pretrained weights {source}: not readable ({problem})") from None
    return state.get("state_dict", state)


def save_segmentor(path: Path, model: nn.Module, settings: Segmentor, **about: object) -> None:
    """Write the final weights as safetensors, with all that a prediction needs as metadata.

    about: JSON-compatible values: `dataset`, `classes` (background first), and the training data.
    """
    metadata = {"settings": settings.dump(), **about}
    with write_atomically(path) as partial:
        save_file(
            {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()},
            partial,
            {key: json.dumps(value) for key, value in metadata.items()},
        )


def read_about(path: Path) -> dict:
    """Read the metadata written by `save_segmentor`: settings, dataset, classes, ..."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            metadata = json.loads(file.read(length))["__metadata__"]
        about = {key: json.loads(value) for key, value in metadata.items()}
        about["settings"], about["classes"]  # noqa: B018  both must be there
        return about
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; train the segmentor first") from None
    except (OSError, ValueError, KeyError, MemoryError, struct.error):
        raise UserError(f"{path}: not a segmentor of train_segmentor.py; train it again") from None


def load_segmentor(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[components.Segmentor, dict]:
    """(network in evaluation mode, what `read_about` returns) of a file of `save_segmentor`."""
    about = read_about(path)
    settings = read_segmentor(about["settings"], str(path))
    model = build_model(settings, len(about["classes"]))
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as problem:
        raise UserError(f"{path}: {str(problem).splitlines()[0]}; train it again") from None
    return model.to(device).eval(), about


def parameter_groups(
    settings: Segmentor, heads: Sequence[str] = ("decode_head", "auxiliary_head")
) -> dict[str, dict[str, float]]:
    """mmengine's custom keys: learning rates of the classifier (DeepLabV2's public recipe)."""
    factor = settings.classifier_lr_factor
    keys = {head: {"lr_mult": factor} for head in heads}
    if settings.architecture == "deeplabv2":
        for branch in range(len(settings.dilations)):
            keys[f"decode_head.classifiers.{branch}.bias"] = {
                "lr_mult": 2 * factor,
                "decay_mult": 0.0,
            }
    return keys
