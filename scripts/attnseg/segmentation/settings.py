"""What a segmentor is and how it is trained, checked."""

import difflib
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from attnseg.errors import UserError

ARCHITECTURES = {"deeplabv2": "DeepLabV2", "deeplabv3plus": "DeepLabv3+"}
BACKBONES = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
RATES = {  # by architecture and output stride
    ("deeplabv2", 8): [6, 12, 18, 24],
    ("deeplabv3plus", 8): [1, 12, 24, 36],
    ("deeplabv3plus", 16): [1, 6, 12, 18],
}


@dataclass(frozen=True)
class Settings:
    """The defaults are DeepLabV2's public recipe for VOC (Text2Mask, Section 4.1), on one device.

    learner: "supervised", or "beco", the co-training of two networks (attn2mask), see beco_*
    architecture, backbone: see ARCHITECTURES, BACKBONES
    width: channels of the first stage; 64 is the usual ResNet
    stem: "imagenet" (7x7 and pooling, stride 4) or "small" (3x3, stride 2) for small images
    output_stride: pixels a feature; later stages are dilated instead of strided
    rates: dilations of the head's branches; null for the architecture's own
    pretrained: an https address or a file; null for random weights
    frozen_norm: whether batch norm stays as pretrained; null: where DeepLabV2 is pretrained
    crop, batch, iterations: pixels, images an iteration, number of them
    epochs: passes over the training images, in place of `iterations`; null for these
    optimizer: "sgd" or "adamw"
    lr, min_lr, poly_power, warmup: lr decays as (1 - i / iterations)^poly_power to min_lr after
        `warmup` iterations of linear increase
    classifier_lr_factor: of the head's rate; DeepLabV2's biases get twice that and no decay
    scales: a training image is resized by one of these
    loss_scales: DeepLabV2's multi-scale loss, the sum over these and the maximum; [1] for none
    photometric: random brightness, contrast, saturation and hue
    auxiliary: weight of DeepLabv3+'s second loss on the third stage; 0 for none
    precision: "float32", "bfloat16", or "auto": bfloat16 where the device computes in it
    workers: processes that read training images
    checkpoint_interval: iterations between checkpoints that an interrupted training resumes from
    beco_warmup: epochs before pasted content comes from the networks' own predictions
    beco_confidence: their softmax above which they are reliable
    beco_mix: probability that content of another image is pasted
    beco_boundary_size, beco_boundary_weight: pixels to each side of the paste's edge, and what is
        added to the weight of their supervised loss
    beco_online_labels: after the warm-up, "mixed": all pixels of a mixed image have online labels
        (the authors' code); "pasted": the pasted ones alone
    beco_strong_colour: whether colours are augmented after the mix
    """

    learner: str = "supervised"
    architecture: str = "deeplabv2"
    backbone: str = "resnet101"
    width: int = 64
    stem: str = "imagenet"
    output_stride: int = 8
    rates: list[int] | None = None
    pretrained: str | None = None
    frozen_norm: bool | None = None
    crop: int = 321
    batch: int = 10
    iterations: int = 20000
    epochs: int | None = None
    optimizer: str = "sgd"
    lr: float = 2.5e-4
    min_lr: float = 0.0
    poly_power: float = 0.9
    warmup: int = 0
    classifier_lr_factor: float = 10.0
    momentum: float = 0.9
    weight_decay: float = 5e-4
    scales: list[float] = field(default_factory=lambda: [0.5, 0.75, 1.0, 1.25, 1.5])
    loss_scales: list[float] = field(default_factory=lambda: [0.5, 0.75, 1.0])
    photometric: bool = False
    auxiliary: float = 0.0
    precision: str = "float32"
    workers: int = 4
    checkpoint_interval: int = 1000
    beco_warmup: float = 1.0
    beco_confidence: float = 0.95
    beco_mix: float = 0.5
    beco_boundary_size: int = 1
    beco_boundary_weight: float = 0.2
    beco_online_labels: str = "mixed"
    beco_strong_colour: bool = True
    seed: int = 0

    @property
    def depth(self) -> int:
        return BACKBONES[self.backbone]

    @property
    def dilations(self) -> list[int]:
        """Of the head's branches."""
        if self.rates is not None:
            return self.rates
        return RATES[self.architecture, self.output_stride]

    @property
    def norm_is_frozen(self) -> bool:
        if self.frozen_norm is None:
            return self.architecture == "deeplabv2" and self.pretrained is not None
        return self.frozen_norm

    @property
    def name(self) -> str:
        """As tables print it: DeepLabV2 ResNet-101."""
        width = "" if self.width == 64 else f" ({self.width} channels)"
        learner = "BECO " if self.learner == "beco" else ""
        return f"{learner}{ARCHITECTURES[self.architecture]} ResNet-{self.depth}{width}"

    def with_iterations(self, images: int) -> "Settings":
        """`iterations` as `epochs` of that many images ask for, where these are set."""
        if self.epochs is None:
            return self
        settings = replace(self, iterations=max(1, round(self.epochs * images / self.batch)))
        _check(settings, "segmentor")
        return settings

    def warmup_iterations(self, images: int) -> int:
        """BECO's warm-up, which is in epochs."""
        return math.ceil(self.beco_warmup * images / self.batch)

    def asdict(self) -> dict:
        return asdict(self)


def read_settings(values: Mapping, where: str = "segmentor") -> Settings:
    """Settings from a plain mapping, without `train` and `test`, which are the callers' matter.

    Raises UserError, one line, for an unknown key or a value that cannot be; `where` begins it.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where}: a mapping is needed, not {values!r}")
    known = typing.get_type_hints(Settings)
    checked = {}
    for key, value in values.items():
        if key in ("train", "test") or (key == "seed" and value is None):
            continue
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
            raise UserError(f"{where}.{key}: no such key; {hint}")
        if not _fits(value, known[key]):
            raise UserError(f"{where}.{key}: {value!r} is no {_words(known[key])}; correct it")
        checked[key] = value
    settings = Settings(**checked)
    _check(settings, where)
    return settings


def _fits(value: object, hint: object) -> bool:
    if isinstance(hint, types.UnionType):
        return any(_fits(value, option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        item = typing.get_args(hint)[0]
        return isinstance(value, list) and len(value) > 0 and all(_fits(v, item) for v in value)
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint


def _words(hint: object) -> str:
    if isinstance(hint, types.UnionType):
        return " or ".join(_words(option) for option in typing.get_args(hint))
    if typing.get_origin(hint) is list:
        return f"list of {_words(typing.get_args(hint)[0])}"
    return {int: "whole number", float: "number", bool: "true or false", str: "text", type(None): "null"}[hint]  # fmt: skip


def _check(s: Settings, where: str) -> None:
    def need(right: bool, key: str, what: str) -> None:
        if not right:
            raise UserError(f"{where}.{key}: {getattr(s, key)!r} must be {what}")

    need(s.learner in ("supervised", "beco"), "learner", "supervised or beco")
    need(s.architecture in ARCHITECTURES, "architecture", f"one of {', '.join(ARCHITECTURES)}")
    need(s.backbone in BACKBONES, "backbone", f"one of {', '.join(BACKBONES)}")
    need(s.stem in ("imagenet", "small"), "stem", "imagenet or small")
    need(s.optimizer in ("sgd", "adamw"), "optimizer", "sgd or adamw")
    need(s.precision in ("auto", "float32", "bfloat16"), "precision", "auto, float32 or bfloat16")
    strides = (4, 8, 16, 32) if s.stem == "imagenet" else (2, 4, 8, 16)
    need(s.output_stride in strides, "output_stride", f"one of {strides} with stem {s.stem}")
    need(
        s.rates is not None or (s.architecture, s.output_stride) in RATES,
        "rates",
        f"set: {s.architecture} has none of its own at output stride {s.output_stride}",
    )
    if s.rates is not None:
        need(all(r >= 1 for r in s.rates), "rates", "1 or more each")
    for key in ("width", "batch", "iterations", "checkpoint_interval"):
        need(getattr(s, key) >= 1, key, "1 or more")
    need(s.crop >= 16, "crop", "16 or more")
    for key in ("lr", "classifier_lr_factor"):
        need(getattr(s, key) > 0, key, "greater than 0")
    for key in (
        *("min_lr", "poly_power", "momentum", "weight_decay", "auxiliary", "workers", "seed"),
        *("beco_warmup", "beco_boundary_weight"),
    ):
        need(getattr(s, key) >= 0, key, "0 or more")
    need(s.epochs is None or s.epochs >= 1, "epochs", "1 or more, or null")
    need(0 <= s.warmup < s.iterations, "warmup", "fewer than the iterations, and not negative")
    for key in ("scales", "loss_scales"):
        need(min(getattr(s, key)) > 0, key, "greater than 0 each")
    need(max(s.loss_scales) == 1, "loss_scales", "1 and smaller scales")
    need(
        not (s.norm_is_frozen and s.pretrained is None), "frozen_norm", "false without `pretrained`"
    )
    need(
        s.architecture == "deeplabv2" or s.loss_scales == [1.0], "loss_scales", "[1] for DeepLabv3+"
    )
    need(s.architecture == "deeplabv3plus" or s.auxiliary == 0, "auxiliary", "0 for DeepLabV2")
    need(0 <= s.beco_mix <= 1, "beco_mix", "from 0 to 1")
    need(0 <= s.beco_confidence <= 1, "beco_confidence", "from 0 to 1")
    need(s.beco_boundary_size >= 1, "beco_boundary_size", "1 or more")
    need(s.beco_online_labels in ("mixed", "pasted"), "beco_online_labels", "mixed or pasted")
    if s.learner == "beco":
        need(s.batch >= 2, "batch", "2 or more for beco: images are mixed with each other")
        need(s.loss_scales == [1.0], "loss_scales", "[1] for beco")
        need(s.auxiliary == 0, "auxiliary", "0 for beco")
