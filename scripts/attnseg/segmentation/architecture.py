"""Networks and losses that mmseg lacks, registered under their class names."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import mmseg.models  # noqa: F401  registers mmseg's models
import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmengine.optim import OptimWrapper
from mmseg.models.backbones import ResNet
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import Tensor, nn

from attnseg.io.batches import Batches
from attnseg.io.precision import number_format
from attnseg.segmentation.data import IGNORED


@MODELS.register_module()
class DeepLabV2Head(BaseDecodeHead):
    """Atrous spatial pyramid pooling of DeepLabV2: parallel dilated 3x3 classifiers, summed."""

    def __init__(self, dilations: Sequence[int], **kwargs: Any):
        super().__init__(
            channels=1,  # of BaseDecodeHead's own classifier, which is deleted below
            dropout_ratio=0,
            init_cfg={"type": "Normal", "std": 0.01, "layer": "Conv2d"},
            **kwargs,
        )
        del self.conv_seg
        self.classifiers = nn.ModuleList(
            nn.Conv2d(self.in_channels, self.out_channels, 3, padding=d, dilation=d)
            for d in dilations
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Features of all stages -> logits [B, C, h, w]."""
        features = self._transform_inputs(inputs)
        return sum(classifier(features) for classifier in self.classifiers)


@MODELS.register_module()
class SmallImageResNet(ResNet):
    """ResNet whose stem is one 3x3 convolution of stride 2, for images of about 64 pixels."""

    def _make_stem_layer(self, in_channels: int, stem_channels: int) -> None:
        self.conv1 = nn.Conv2d(in_channels, stem_channels, 3, stride=2, padding=1, bias=False)
        self.norm1_name, norm1 = build_norm_layer(self.norm_cfg, stem_channels, postfix=1)
        self.add_module(self.norm1_name, norm1)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity()


@MODELS.register_module()
class CaffeResNet(ResNet):
    """ResNet for the weights of DeepLab's authors: the stride in the first 1x1, pooling rounds up."""

    def __init__(self, **kwargs: Any):
        super().__init__(style="caffe", **kwargs)
        self.maxpool.ceil_mode = True


@MODELS.register_module()
class BalancedCrossEntropy(nn.Module):
    """`balanced_cross_entropy` as a loss of mmseg's heads."""

    loss_name = "loss_balanced"

    def __init__(self, loss_weight: float = 1.0):
        super().__init__()
        self.loss_weight = loss_weight

    def forward(self, logits: Tensor, labels: Tensor, **_: Any) -> Tensor:
        return self.loss_weight * balanced_cross_entropy(logits, labels)


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of the background's mean cross-entropy and the foreground's, over the whole batch.

    Where a batch has none of either, its mean is 0, as in DSRG, whose loss this is; in CLIMS it is
    not a number, which ends a training.

    logits: [B, C, H, W], 0 is the background. labels: [B, H, W] int64, IGNORED where unknown.
    """
    losses = F.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="none")
    background, foreground = (
        (losses * chosen).sum() / chosen.sum().clamp_min(1)
        for chosen in (labels == 0, (labels != 0) & (labels != IGNORED))
    )
    return (background + foreground) / 2


class GradientAccumulation:
    """Training steps of an mmseg model in several passes, whose gradients make one update.

    accumulate: so many passes, and more if a part does not fit in memory. Batch norm in training mode
        sees the parts, and a loss that is a mean over some of the pixels is a mean over the parts'.
    """

    accumulate = 1
    passes: Batches | None = None
    # of the mmseg model that it is a part of
    data_preprocessor: Any
    parse_losses: Callable[..., Any]
    _run_forward: Callable[..., Any]

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Any]:
        """As mmengine's: one update, and the losses for its log."""
        count = len(data["inputs"])
        if self.passes is None:
            size = math.ceil(count / self.accumulate)
            self.passes = Batches(size, "training image", least=min(2, size))  # 2 for batch norm

        def backward(rows: range) -> dict[str, Tensor]:
            part = {name: [values[row] for row in rows] for name, values in data.items()}
            with optim_wrapper.optim_context(self):
                losses = self._run_forward(self.data_preprocessor(part, True), mode="loss")
            loss, logged = self.parse_losses(losses)
            share = len(rows) / count
            optim_wrapper.backward(loss * share)
            return {name: value.detach() * share for name, value in logged.items()}

        losses = self.passes.together(range(count), backward, optim_wrapper.zero_grad)
        optim_wrapper.step()
        optim_wrapper.zero_grad()
        return {name: sum(part[name] for part in losses) for name in losses[0]}


@MODELS.register_module()
class Segmentor(GradientAccumulation, EncoderDecoder):
    """EncoderDecoder with DeepLabV2's multi-scale loss and a choice of number format.

    loss_scales: the loss is the sum of the cross-entropies of the logits at each scale and of their
        maximum, with labels resized to the logits; [1] is mmseg's loss at the labels' resolution.
    precision: "float32", "bfloat16" (autocast), or "auto": bfloat16 where the device has it.
    accumulate: parts of a batch that pass one after another.
    """

    short_side: int | None = None  # of photos in tests; null for their own

    def __init__(
        self,
        *,
        loss_scales: Sequence[float] = (1.0,),
        precision: str = "float32",
        accumulate: int = 1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.accumulate = accumulate
        self.loss_scales = sorted(loss_scales, reverse=True)
        self.precision = precision
        self.to(memory_format=torch.channels_last)

    def _arithmetic(self, inputs: Tensor) -> contextlib.AbstractContextManager:
        half = number_format(self.precision, inputs.device) == "bfloat16"
        return torch.autocast(inputs.device.type, torch.bfloat16, enabled=half)

    def logits(self, inputs: Tensor) -> Tensor:
        """Logits [B, C, h, w] float32 of normalised images [B, 3, H, W]."""
        with self._arithmetic(inputs):
            return self.decode_head(self.extract_feat(inputs)).float()

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        return self.decode_head.predict_by_feat(self.logits(inputs), batch_img_metas)

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        if self.loss_scales != [1.0]:
            return self._multi_scale_loss(inputs, data_samples)
        losses: dict[str, Tensor] = {}
        with self._arithmetic(inputs):
            features = self.extract_feat(inputs)
            logits = self.decode_head(features)
            if self.with_auxiliary_head:
                losses |= self._auxiliary_head_forward_train(features, data_samples)
        # not loss_by_feat: its accuracy takes a tenth of a small network's time
        labels = self.decode_head._stack_batch_gt(data_samples)[:, 0]
        logits = F.interpolate(logits.float(), labels.shape[1:], mode="bilinear")
        losses["decode.loss"] = self.decode_head.loss_decode(logits, labels, ignore_index=IGNORED)
        return losses

    def _multi_scale_loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        logits = [
            self.logits(
                inputs if s == 1 else F.interpolate(inputs, scale_factor=s, mode="bilinear")
            )
            for s in self.loss_scales
        ]
        size = logits[0].shape[2:]
        resized = [F.interpolate(one, size, mode="bilinear") for one in logits]
        logits.append(torch.stack(resized).amax(0))
        labels = self.decode_head._stack_batch_gt(data_samples).float()  # [B, 1, H, W]
        losses = {}
        for name, one in zip([*self.loss_scales, "maximum"], logits, strict=True):
            # "nearest" would shift them by up to half a pixel of the logits
            target = F.interpolate(labels, one.shape[2:], mode="nearest-exact")[:, 0].long()
            losses[f"decode.loss_{name}"] = self.decode_head.loss_decode(
                one, target, ignore_index=IGNORED
            )
        return losses
