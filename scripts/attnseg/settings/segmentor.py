"""Settings of segmentors, which are trained on masks."""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from attnseg.settings.attention import Crf, ExtractionJob, ProfileName
from attnseg.settings.base import (
    Count,
    Natural,
    NotNegative,
    Positive,
    Scales,
    Settings,
    Share,
    key,
    part,
    read_settings,
    same_as,
)

ARCHITECTURES = {"deeplabv2": "DeepLabV2", "deeplabv3plus": "DeepLabv3+"}
BACKBONES = {"resnet18": 18, "resnet34": 34, "resnet50": 50, "resnet101": 101}
RATES = {  # by architecture and output stride
    ("deeplabv2", 8): [6, 12, 18, 24],
    ("deeplabv3plus", 8): [1, 12, 24, 36],
    ("deeplabv3plus", 16): [1, 6, 12, 18],
}


class Segmentor(Settings):
    """A network and its training; the defaults are DeepLabV2's public recipe for VOC."""

    learner: Literal["supervised", "beco"] = key(
        "supervised",
        "The training method: supervised, or beco, the co-training of two networks on reliable masks.",
    )
    architecture: Literal["deeplabv2", "deeplabv3plus"] = key(
        "deeplabv2", "The head.", papers="Text2Mask: deeplabv2; attn2mask: deeplabv3plus"
    )
    backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101"] = key(
        "resnet101", "The backbone.", papers="Text2Mask: resnet101; attn2mask: resnet50"
    )
    width: Count = key(64, "Channels of the backbone's first stage; 64 is the usual ResNet.")
    stem: Literal["imagenet", "deep", "resnet_d", "small"] = key(
        "imagenet",
        "The backbone's stem: imagenet (7x7 and pooling, stride 4), deep (three 3x3 and pooling, stride "
        "4; ResNetV1c), resnet_d (deep, and stages begin with average pooling; ResNetV1d) or, for small "
        "images, small (3x3, stride 2).",
        papers="kazuto1011: imagenet; mmsegmentation: deep; BECO: resnet_d",
    )
    style: Literal["pytorch", "caffe"] = key(
        "pytorch",
        "Whose weights the backbone takes: pytorch or, for those of DeepLab's authors, caffe (the stride "
        "in a block's first 1x1 convolution, pooling that rounds up, photos minus their mean).",
        papers="kazuto1011, CLIMS: caffe; mmsegmentation, BECO: pytorch",
    )
    output_stride: Literal[2, 4, 8, 16, 32] = key(
        8, "Input pixels per feature cell; later stages are dilated rather than strided."
    )
    contract_dilation: bool = key(
        False,
        "The first block of a dilated stage keeps the stage before's dilation.",
        papers="kazuto1011: false; mmsegmentation: true",
    )
    multi_grid: bool = key(
        False,
        "The blocks of the last stage have 1, 2 and 4 times its dilation.",
        papers="kazuto1011, mmsegmentation: false; BECO: true",
    )
    aspp_channels: Count | None = key(
        None,
        "Channels of DeepLabv3+'s head; null for 8 times `width`.",
        papers="mmsegmentation: 512; BECO: 256",
    )
    rates: Annotated[list[Count], Field(min_length=1)] | None = key(
        None, "Dilations of the head's branches; null for the architecture's own."
    )
    pretrained: str | None = key(
        None,
        "Weights of the backbone, as an address or a local file; null for random ones. The mini "
        "scale trains `<work>/backbones/<backbone>_<width>.safetensors` on scenes of its world.",
        papers="Text2Mask: of ImageNet, and of COCO in the rows with a double dagger",
    )
    frozen_norm: bool | None = key(
        None, "Freeze batch norm; null to freeze it if the architecture is a pretrained DeepLabV2."
    )
    crop: int = key(
        321,
        "Side of the square training crops, in pixels.",
        papers="kazuto1011, CLIMS, LPCAM: 321; mmsegmentation, BECO: 512",
        ge=16,
    )
    crop_area: Annotated[list[Share], Field(min_length=2, max_length=2)] | None = key(
        None,
        "The least and the greatest share of the photo's area that a training crop has, at an aspect "
        "ratio of 3/4 to 4/3; it is resized to `crop`, in place of `scales`. null for crops of that size.",
        papers="BECO: 0.5 to 0.75, the first two of the scales in its configuration",
    )
    cat_max_ratio: Annotated[float, Field(gt=0, le=1)] = key(
        1.0,
        "A crop in which one class has this share of the labelled pixels or more is drawn again, ten "
        "times at most; 1 for any crop.",
        papers="kazuto1011: 1; mmsegmentation: 0.75",
    )
    short_side: Count | None = key(
        None,
        "Photos are resized to this short side, in pixels (the long side at most four times it), before "
        "`scales` in training and in tests; null for their own size.",
        papers="kazuto1011: null; mmsegmentation: 512",
    )
    batch: Count = key(
        10,
        "Images per forward pass, over all devices.",
        papers="kazuto1011: 5; CLIMS, LPCAM: 10; attn2mask: 32",
    )
    accumulate: Count = key(
        1,
        "Batches whose mean gradient makes one update; several GPUs share them.",
        papers="kazuto1011, CLIMS, LPCAM: 2",
    )
    iterations: Count = key(
        20000,
        "Updates of the weights.",
        papers="kazuto1011: 20,000; CLIMS from ImageNet: 30,000; LPCAM on COCO: 100,000; "
        "mmsegmentation: 20,000 or 40,000",
    )
    optimizer: Literal["sgd", "adamw"] = key("sgd", "The optimizer.")
    lr: Positive = key(
        0.00025,
        "Learning rate of the backbone; it decays as (1 - i / iterations) ^ poly_power to min_lr.",
        papers="kazuto1011, CLIMS: 0.00025; LPCAM on COCO: 0.0002; CLIP-ES from COCO: 0.000025; "
        "attn2mask: 0.01",
    )
    classifier_lr_factor: Positive = key(
        10.0,
        "Factor of the classifier's learning rate; DeepLabV2's biases get twice that and no decay.",
        papers="kazuto1011: 10; mmsegmentation: 1",
    )
    min_lr: NotNegative = key(0.0, "The final learning rate of the decay.")
    warmup: Natural = key(0, "Iterations of linear increase before the decay.")
    poly_power: NotNegative = key(
        0.9,
        "The exponent of the learning rate's decay.",
        papers="kazuto1011, mmsegmentation, BECO: 0.9",
    )
    momentum: NotNegative = key(
        0.9, "SGD momentum.", papers="kazuto1011, mmsegmentation, BECO: 0.9"
    )
    weight_decay: NotNegative = key(
        0.0005, "Weight decay.", papers="kazuto1011: 0.0005; attn2mask: 0.0001"
    )
    scales: Scales = key(
        [0.5, 0.75, 1.0, 1.25, 1.5],
        "Training images are resized by one of these factors.",
        papers="kazuto1011, LPCAM: 0.5 to 1.5; CLIMS from ImageNet: 0.5 to 2",
    )
    continuous_scales: bool = key(
        False,
        "Draw the factor between the smallest and the largest of `scales`, rather than one of them.",
        papers="kazuto1011: false; mmsegmentation: true, 0.5 to 2",
    )
    loss: Literal["plain", "all_pixels", "balanced"] = key(
        "plain",
        "plain, the mean cross-entropy of the labelled pixels; all_pixels, their sum divided by the "
        "number of all pixels; balanced, the mean of the background's mean and the foreground's, either "
        "of which is 0 where it is absent.",
        papers="kazuto1011: plain; CLIMS from ImageNet: balanced; mmsegmentation: all_pixels",
    )
    loss_scales: Scales = key(
        [0.5, 0.75, 1.0],
        "Scales of the multi-scale loss, the sum over these scales and their maximum; [1] for the "
        "usual loss.",
    )
    photometric: bool = key(
        False, "Randomly change brightness, contrast, saturation and hue of training images."
    )
    auxiliary: NotNegative = key(
        0.0, "Weight of DeepLabv3+'s second loss, on the third stage; 0 for none."
    )
    precision: Literal["auto", "float32", "bfloat16"] = key(
        "float32",
        "Number format of the training; auto is bfloat16 if the processor or GPU supports it, else "
        "float32. It is recorded, but changing it does not cause another training.",
        speed=True,
    )
    workers: Natural = key(4, "Processes that read training images.", speed=True)
    checkpoint_interval: Count = key(
        1000,
        "Iterations between checkpoints.",
        speed=True,
    )
    beco_warmup: Natural = key(
        661,
        "With learner beco, iterations until pasted regions come from the networks' predictions.",
        papers="BECO: an epoch of 80, 661 of 52,910",
    )
    beco_confidence: Share = key(
        0.95,
        "With learner beco, the softmax above which these predictions are reliable.",
        papers="BECO: 0.95",
    )
    beco_mix: Share = key(
        0.5,
        "With learner beco, the probability that a region of another image is pasted.",
        papers="BECO: 0.5",
    )
    beco_boundary_size: Count = key(
        1,
        "With learner beco, width in pixels, on each side of a pasted region's edge, of the boundary.",
        papers="BECO: 1",
    )
    beco_boundary_weight: NotNegative = key(
        0.2,
        "With learner beco, the additional weight of the supervised loss at that boundary, after the "
        "warm-up.",
        papers="BECO: 0.2",
    )
    beco_online_labels: Literal["mixed", "pasted"] = key(
        "mixed",
        "With learner beco, after the warm-up, the pixels of a mixed image that have online labels: "
        "all (`mixed`, as in the official code) or the pasted ones (`pasted`).",
    )
    beco_strong_colour: bool = key(
        True, "With learner beco, strongly augment colours after mixing."
    )
    seed: Natural = key(0, "Seed of weights and batches.")

    @model_validator(mode="after")
    def check(self) -> Self:
        """Check keys that depend on each other. Errors have the arguments (reason, key)."""

        def need(right: bool, name: str, what: str) -> None:
            if not right:
                raise ValueError(f"{getattr(self, name)!r} must be {what}", name)

        strides = (2, 4, 8, 16) if self.stem == "small" else (4, 8, 16, 32)
        stride, own = self.output_stride, (self.architecture, self.output_stride) in RATES
        need(stride in strides, "output_stride", f"one of {strides} with stem {self.stem}")
        need(
            self.rates is not None or own,
            "rates",
            f"set: {self.architecture} has none of its own at output stride {stride}",
        )
        need(self.warmup < self.iterations, "warmup", "fewer than the iterations")
        need(max(self.loss_scales) == 1, "loss_scales", "1 and smaller scales")
        pretrained = self.pretrained is not None
        need(pretrained or not self.norm_is_frozen, "frozen_norm", "false without `pretrained`")
        # its last part names the file that it is kept in, which commands hold as it is
        plain = re.fullmatch(r"https:[\w./@%+=:,-]+", self.pretrained or "https:/")
        address = (self.pretrained or "").startswith("https:")
        need(bool(plain) or not address, "pretrained", "an address without signs of a shell")
        multi_scale = self.loss_scales != [1.0]
        if self.architecture == "deeplabv3plus":
            need(not multi_scale, "loss_scales", "[1] for DeepLabv3+")
        else:
            need(self.auxiliary == 0, "auxiliary", "0 for DeepLabV2")
        if self.multi_grid:
            need(not self.contract_dilation, "contract_dilation", "false with multi_grid")
        if self.style == "caffe":
            need(self.stem == "imagenet", "stem", "imagenet for caffe's weights")
        if self.learner == "beco":
            need(self.loss == "plain", "loss", "plain for beco, which has its own")
            need(self.accumulate == 1, "accumulate", "1 for beco: images of a batch are mixed")
            need(self.batch >= 2, "batch", "2 or more for beco: images are mixed with each other")
            need(not multi_scale, "loss_scales", "[1] for beco")
            need(self.auxiliary == 0, "auxiliary", "0 for beco")
        if self.architecture == "deeplabv3plus":
            need(
                self.batch >= 2, "batch", "2 or more: DeepLabv3+ normalises a branch over the batch"
            )
        return self

    @property
    def depth(self) -> int:
        return BACKBONES[self.backbone]

    @property
    def dilations(self) -> list[int]:
        """Dilations of the head's branches."""
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
        """Name in tables, such as DeepLabV2 ResNet-101."""
        width = "" if self.width == 64 else f" ({self.width} channels)"
        learner = "BECO " if self.learner == "beco" else ""
        return f"{learner}{ARCHITECTURES[self.architecture]} ResNet-{self.depth}{width}"

    @property
    def images_per_update(self) -> int:
        return self.batch * self.accumulate


class Train(Settings):
    """The training data of a segmentor."""

    dataset: str = key(
        ..., "An entry of datasets, which has its classes and on which it is tested."
    )
    split: str | None = key(None, "One of its splits; null with generated images.")
    synthesis: str | None = key(
        None, "An entry of synthesis, to train on generated images in place of a split."
    )
    images: Count | None = key(None, "Number of generated images, from the first on; null for all.")
    masks: Annotated[str, Field(pattern=r"^[^/]+(/[^/]+)?$")] = key(
        ...,
        "`<variant>/<refinement>` for pseudo masks, `truth` for ground truth, "
        "`<inversion>/<labelling>` for masks of inverted photos, `<labelling>` for masks of generated "
        "images.",
    )


class Test(Settings):
    """The evaluation of a segmentor."""

    __test__ = False  # keeps pytest from collecting it
    version: ClassVar[int] = 2

    scales: Scales = key(
        [0.5, 0.75, 1.0],
        "The image is predicted at each of these scales.",
        papers="kazuto1011, CLIMS: 0.5, 0.75, 1; mmsegmentation, BECO: 1",
    )
    flip: bool = key(
        False,
        "The mirrored image is predicted as well.",
        papers="kazuto1011, CLIMS, mmsegmentation, BECO: false",
    )
    merge: Literal["maximum", "mean"] = key(
        "maximum",
        "How these predictions become one, at the network's resolution: the maximum of the logits, or "
        "the mean of the probabilities.",
        papers="kazuto1011, CLIMS: maximum",
    )
    crf: bool = key(
        True,
        "Apply the dense CRF configured in `crf`.",
        papers="kazuto1011, CLIMS: true",
    )


class TestJob(Test):
    """Settings of a job that evaluates a segmentor."""

    version: ClassVar[int] = 3  # the CRF leaves out labels that are nowhere likely
    crf: Crf | None = key(Crf(), "The dense CRF; null for none.")  # type: ignore[assignment]  # what the switch is for
    # `official`, like kazuto1011 and CLIMS, shows the CRF the mean-subtracted image, wrapped to 8 bits
    profile: ProfileName = same_as(ExtractionJob, "profile")


class NamedSegmentor(Segmentor):
    """A network, its training and its training data."""

    seed: Natural | None = key(  # type: ignore[assignment]  # read_segmentor takes no null over
        None, "Seed of weights and batches; null for that of the run."
    )
    extends: str | None = key(
        None, "Another segmentor, from which missing keys are taken; null for none."
    )
    train: Train = key(..., "Its training data.")
    test: Test = part(Test, "Its evaluation.")


def read_segmentor(values: Mapping, where: str = "segmentor") -> Segmentor:
    """Read a segmentor's settings from an entry of the configuration or the metadata of weights."""
    if isinstance(values, Mapping):
        values = {
            name: value
            for name, value in values.items()
            if name not in ("extends", "train", "test") and (name, value) != ("seed", None)
        }
    return read_settings(Segmentor, values, where)
