"""Build segmentors; save and load their weights."""

import json
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import torch
from mmengine.registry import DefaultScope
from mmseg.models.backbones import ResNetV1d
from mmseg.registry import MODELS
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from attnseg.errors import WRONG, UserError
from attnseg.io.costs import job_log
from attnseg.io.files import set_aside, write_atomically
from attnseg.io.tensors import digest_of, save_tensors
from attnseg.segmentation import architecture, beco, hooks, loading  # noqa: F401  registers them
from attnseg.segmentation.data import IGNORED
from attnseg.settings import Segmentor, read_segmentor

RESNETS = {
    "imagenet": "ResNet",
    "deep": "ResNetV1c",
    "resnet_d": "ResNetV1d",
    "small": "SmallImageResNet",
}  # by stem
MEAN = (123.675, 116.28, 103.53)  # ImageNet's, RGB in [0, 255]
STD = (58.395, 57.12, 57.375)
CAFFE_MEAN = (122.675, 116.669, 104.008)  # its weights expect no division by a deviation


def model_config(settings: Segmentor, classes: int) -> dict:
    """mmseg's configuration of the model; its input is BGR uint8, as mmcv reads it."""
    s = settings
    stem = 2 if s.stem == "small" else 4
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
    if s.loss == "balanced":
        loss: dict = {"type": "BalancedCrossEntropy"}
    else:
        loss = {"type": "CrossEntropyLoss", "avg_non_ignore": s.loss == "plain"}
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
        channels = s.aspp_channels or 8 * s.width
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
        "mean": CAFFE_MEAN if s.style == "caffe" else MEAN,
        "std": (1.0, 1.0, 1.0) if s.style == "caffe" else STD,
        "bgr_to_rgb": True,
        "pad_val": 0,
        "seg_pad_val": IGNORED,
        "size": (s.crop, s.crop),
    }
    network = {
        "type": "Segmentor",
        "loss_scales": s.loss_scales,
        "precision": s.precision,
        "accumulate": s.accumulate,
        "backbone": {
            "type": "CaffeResNet" if s.style == "caffe" else RESNETS[s.stem],
            "depth": s.depth,
            "stem_channels": s.width,
            "base_channels": s.width,
            "strides": strides,
            "dilations": dilations,
            "contract_dilation": s.contract_dilation,
            "multi_grid": [grid * dilations[3] for grid in (1, 2, 4)] if s.multi_grid else None,
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


def build_model(settings: Segmentor, classes: int) -> architecture.Segmentor:
    """The network without weights of its own yet."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        model = MODELS.build(model_config(settings, classes))
    model.short_side = settings.short_side
    return model


def load_pretrained(model: nn.Module, source: str) -> None:
    """Load weights of a backbone, or of a whole segmentor, from a file or an address.

    The backbone must be complete; a head of another shape is skipped. Both networks of BECO get the
    same weights. A backbone in Caffe's style takes the names of kazuto1011's conversions.
    """
    if isinstance(model, beco.Beco):
        for network in model.networks:
            load_pretrained(network, source)
        return
    state = _read_weights(source)
    if not any(key.startswith("backbone.") for key in state):
        if isinstance(model.backbone, architecture.CaffeResNet):
            state = from_caffe(state)
        state = {f"backbone.{key}": value for key, value in state.items()}
    if isinstance(model.backbone, ResNetV1d):
        state = from_mmpretrain(state)
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
            "are absent or of another shape; give weights of the same backbone, stem and style"
        )
    model.load_state_dict(fitting, strict=False)


def from_mmpretrain(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of OpenMMLab's classifier ResNetV1d under mmseg's names.

    Mmseg's shortcut of the first stage begins with a pooling, of one pixel; the classifier's does not.
    """
    place = "backbone.layer1.0.downsample."
    if f"{place}0.weight" not in state:
        return dict(state)
    renamed = {}
    for name, values in state.items():
        if name.startswith(place):
            number, rest = name.removeprefix(place).split(".", 1)
            name = f"{place}{int(number) + 1}.{rest}"
        renamed[name] = values
    return renamed


CAFFE_NAME = re.compile(
    r"(?:base\.|scale\.)?layer(\d)\.(?:conv1|block(\d+)\.(\w+))\.(conv|bn)\.(\w+)"
)
CAFFE_BRANCHES = {"reduce": 1, "conv3x3": 2, "increase": 3}


def from_caffe(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights of DeepLab's authors, under torchvision's names and for RGB.

    Names are those of kazuto1011's conversions: layer1 is the stem, layer2 to layer5 the stages, with
    blocks from 1. Others, such as the head's, are left out.
    """
    renamed = {}
    for name, values in state.items():
        if not (match := CAFFE_NAME.fullmatch(name)):
            continue
        layer, block, branch, kind, rest = match.groups()
        if block is None:
            renamed[f"{kind}1.{rest}"] = values.flip(1) if kind == "conv" else values  # of BGR
            continue
        place = f"layer{int(layer) - 1}.{int(block) - 1}"
        if branch == "proj":
            renamed[f"{place}.downsample.{int(kind == 'bn')}.{rest}"] = values
        elif branch in CAFFE_BRANCHES:
            renamed[f"{place}.{kind}{CAFFE_BRANCHES[branch]}.{rest}"] = values
    return renamed


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
            return dict(state.get("state_dict", state))
        except Exception as problem:  # torch and safetensors raise many types
            raise UserError(
                f"pretrained weights {source}: damaged, or a pickle of more than weights "
                f"({type(problem).__name__}), which is never read; give a file of weights"
            ) from None
    return state.get("state_dict", state)


def save_segmentor(path: Path, model: nn.Module, settings: Segmentor, **about: object) -> None:
    """Write the final weights as safetensors, with all that a prediction needs as metadata.

    about: JSON-compatible values: `dataset`, `classes` (background first), and the training data.
    """
    metadata = {"settings": settings.dump(), **about}
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    metadata["digest"] = digest_of(state, metadata)
    with write_atomically(path) as partial:
        save_tensors(state, partial, {key: json.dumps(value) for key, value in metadata.items()})


def read_about(path: Path) -> dict:
    """Read the metadata written by `save_segmentor`: settings, dataset, classes, ..."""
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            metadata = json.loads(file.read(length))["__metadata__"]
        about = {key: json.loads(value) for key, value in metadata.items()}
        about["settings"], len(about["classes"])  # both must be there
        return about
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; train the segmentor first") from None
    except (*WRONG, MemoryError, struct.error):
        # the workflow's own weights; another file of a user's stays
        advice = set_aside(path) if job_log() else "train it again"
        raise UserError(f"{path}: not a segmentor of train_segmentor.py; {advice}") from None


def load_segmentor(
    path: Path, device: str | torch.device = "cpu"
) -> tuple[architecture.Segmentor, dict]:
    """(network in evaluation mode, what `read_about` returns) of a file of `save_segmentor`."""
    about = read_about(path)
    settings = read_segmentor(about["settings"], str(path))
    model = build_model(settings, len(about["classes"]))
    try:
        state = load_file(path)
        told = about.pop("digest", None)  # absent from weights of earlier releases
        if told not in (None, digest_of(state, about)):
            raise UserError(f"{path}: damaged; {set_aside(path)}")
        model.load_state_dict(state)
    except SafetensorError as problem:
        reason = str(problem).splitlines()[0]
        raise UserError(f"{path}: damaged ({reason}); {set_aside(path)}") from None
    except RuntimeError as problem:
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
