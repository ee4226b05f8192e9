"""Components that mmseg lacks, registered under their class names."""

import contextlib
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import cv2
import mmcv
import mmseg.datasets.transforms  # noqa: F401  registers mmseg's transforms
import mmseg.models  # noqa: F401  registers mmseg's models
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmcv.transforms import BaseTransform, Resize
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from mmseg.models.backbones import ResNet
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import DATA_SAMPLERS, DATASETS, HOOKS, MODELS, TRANSFORMS
from torch import Tensor, nn
from tqdm import tqdm

from attnseg.datasets.images import read_image
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


@DATASETS.register_module()
class PhotosAndMasks(BaseSegDataset):
    """Photos and masks given as paths: (photo, mask) or (photo, mask, reliability map).

    With `NumberedSampler`, each index comes with its position in the training, which seeds the
    augmentations, so that they depend neither on the workers nor on interruptions.
    """

    def __init__(self, pairs: Sequence[tuple[str, ...]], seed: int = 0, **kwargs: Any):
        self.pairs = pairs
        self.seed = seed
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        return [
            {
                "img_path": photo,
                "seg_map_path": mask,
                "reliability_path": reliability[0] if reliability else None,
                "label_map": None,
                "reduce_zero_label": False,
                "seg_fields": [],
            }
            for photo, mask, *reliability in self.pairs
        ]

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        if isinstance(index, tuple):
            index, place = index
            state = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
            np.random.seed(state)
            random.seed(state)
        return super().__getitem__(index)


def bounds(short_side: int) -> tuple[int, int]:
    """Most pixels of the long and the short side, as mmseg writes them: 512 -> (2048, 512)."""
    return 4 * short_side, short_side


def resized(size: Sequence[int], short_side: int | None) -> Sequence[int]:
    """Height and width of a photo within `bounds`; its own without a short side."""
    if short_side is None:
        return size
    width, height = mmcv.rescale_size((size[1], size[0]), bounds(short_side))
    return height, width


@DATA_SAMPLERS.register_module()
class NumberedSampler(InfiniteSampler):
    """Yield (index, position in the sequence) in endless shuffled passes."""

    def _infinite_indices(self) -> Iterator[tuple[int, int]]:
        return ((index, place) for place, index in enumerate(super()._infinite_indices()))


@TRANSFORMS.register_module()
class LoadPhoto(BaseTransform):
    """Read the photo as everything else here does, with `turn` upright by its EXIF orientation.

    mmcv's own reader turns photos whose masks lie as they are stored.
    """

    def __init__(self, turn: bool = False):
        self.turn = turn

    def transform(self, results: dict) -> dict:
        photo = read_image(results["img_path"], self.turn)
        results["img"] = np.ascontiguousarray(photo[..., ::-1])  # BGR, as mmcv's
        results["img_shape"] = results["ori_shape"] = photo.shape[:2]
        return results


@TRANSFORMS.register_module()
class ResizeByOneOf(Resize):
    """Resize photo and mask by one of `factors`, drawn anew each time.

    short_side: the factor is of the size with this short side, at once, as mmseg's RandomResize.
    continuous: draw the factor between the smallest and the largest instead.
    """

    def __init__(
        self, factors: Sequence[float], short_side: int | None = None, continuous: bool = False
    ):
        super().__init__(scale_factor=1.0, keep_ratio=True)
        self.factors = list(factors)
        self.short_side = short_side
        self.continuous = continuous

    def transform(self, results: dict) -> dict:
        if self.continuous:
            factor = np.random.uniform(min(self.factors), max(self.factors))
        else:
            factor = float(np.random.choice(self.factors))
        self.scale_factor = (factor, factor)
        if self.short_side is not None:
            long, short = bounds(self.short_side)
            self.scale = (int(long * factor), int(short * factor))
        return super().transform(results)

    def _resize_seg(self, results: dict) -> None:
        # mmcv's INTER_NEAREST would shift labels by up to half a pixel against the photo
        size = results["img"].shape[1::-1]
        for key in results["seg_fields"]:
            results[key] = cv2.resize(results[key], size, interpolation=cv2.INTER_NEAREST_EXACT)


@TRANSFORMS.register_module()
class CropByArea(BaseTransform):
    """Crop a share of the area within `area`, at an aspect ratio of 3/4 to 4/3, and resize it to a square.

    Torchvision's RandomResizedCrop of photo and mask; what fits in none of ten trials is cut to fit.
    """

    def __init__(self, area: Sequence[float], size: int):
        self.area, self.size = area, size

    def transform(self, results: dict) -> dict:
        height, width = results["img"].shape[:2]
        for _ in range(10):
            pixels = np.random.uniform(self.area[0], self.area[1]) * height * width
            aspect = np.exp(np.random.uniform(math.log(3 / 4), math.log(4 / 3)))
            h, w = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
            if h <= height and w <= width:
                break
        h, w = min(h, height), min(w, width)
        y, x = np.random.randint(height - h + 1), np.random.randint(width - w + 1)
        for key in ("img", *results["seg_fields"]):
            how = cv2.INTER_LINEAR if key == "img" else cv2.INTER_NEAREST_EXACT
            part = results[key][y : y + h, x : x + w]
            results[key] = cv2.resize(part, (self.size, self.size), interpolation=how)
        results["img_shape"] = results["img"].shape[:2]
        return results


@HOOKS.register_module()
class SeedEachIteration(Hook):
    """Seed torch in each iteration, so that dropout does not depend on interruptions either."""

    def __init__(self, seed: int):
        self.seed = seed

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        state = np.random.SeedSequence([self.seed, batch_idx, 1]).generate_state(1)
        torch.manual_seed(int(state[0]))


@HOOKS.register_module()
class Progress(Hook):
    """Show progress: a bar on a terminal, lines in a log. Raise if the loss is not finite."""

    priority = "VERY_LOW"

    def __init__(self, lines: int = 20):
        self.lines = lines

    def before_train(self, runner: Runner) -> None:
        self.first = runner.rank == 0  # of several processes, the one that prints
        if runner.iter and self.first:
            print(f"resumed after iteration {runner.iter}", flush=True)
        self.losses: list[Tensor] = []
        self.bar = tqdm(
            total=runner.max_iters,
            initial=runner.iter,
            desc="train",
            unit="it",
            disable=None if self.first else True,
        )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: Any = None
    ) -> None:
        self.losses.append(outputs["loss"].detach())
        self.bar.update()
        done = batch_idx + 1
        if done % max(1, runner.max_iters // self.lines):
            return
        loss = self.mean_loss(done)
        rates = [group["lr"] for group in runner.optim_wrapper.optimizer.param_groups]
        line = f"loss {loss:.4f}, learning rate {min(rates):.3g} to {max(rates):.3g}"
        if not self.first:
            return
        if self.bar.disable:
            print(f"iteration {done} of {runner.max_iters}: {line}", flush=True)
        else:
            self.bar.set_postfix_str(line)

    def mean_loss(self, done: int) -> float:
        """Mean loss since the last call; waits for the device."""
        loss = float(torch.stack(self.losses).mean())
        self.losses.clear()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} near iteration {done}")
        return loss

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        if metrics and self.first:
            tqdm.write(f"iteration {runner.iter}: validation mIoU {metrics['mIoU']:.1f}")

    def after_train(self, runner: Runner) -> None:
        self.bar.close()
        if self.losses:
            self.mean_loss(runner.max_iters)
