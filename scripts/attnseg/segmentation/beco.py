"""BECO as an mmseg model: two networks that supervise each other where labels are unreliable."""

import copy
from pathlib import Path

from attnseg.segmentation import openmmlab  # noqa: F401  isort: skip

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmengine.hooks import Hook
from mmengine.model import ModuleList
from mmengine.runner import Runner
from mmseg.datasets.transforms import PackSegInputs
from mmseg.models.segmentors.base import BaseSegmentor
from mmseg.registry import HOOKS, MODELS, TRANSFORMS
from PIL import Image
from torch import Tensor

from attnseg.errors import UserError
from attnseg.segmentation.architecture import GradientAccumulation
from attnseg.segmentation.cotraining import (
    NOTHING,
    LabelledPhotos,
    boundary_weights,
    cotraining_loss,
    mixed,
    online,
    strong_colours,
)


@MODELS.register_module()
class Beco(GradientAccumulation, BaseSegmentor):
    """Two networks of one architecture; the prediction is the mean of their logits.

    network: mmseg's configuration of each; their random initial weights differ.
    warmup_iterations: until then pseudo labels select the pasted regions, afterwards the networks'
        predictions do.
    """

    align_corners = False

    def __init__(
        self,
        *,
        network: dict,
        confidence: float = 0.95,
        mix: float = 0.5,
        boundary_size: int = 1,
        boundary_weight: float = 0.2,
        online_labels: str = "mixed",
        strong_colour: bool = True,
        warmup_iterations: int = 0,
        first_foreground: int = 1,
        data_preprocessor: dict | None = None,
    ):
        super().__init__(data_preprocessor=data_preprocessor)
        self.networks = ModuleList([MODELS.build(copy.deepcopy(network)) for _ in range(2)])
        self.confidence = confidence
        self.mix = mix
        self.boundary_size = boundary_size
        self.boundary_weight = boundary_weight
        self.online_labels = online_labels
        self.strong_colour = strong_colour
        self.warmup_iterations = warmup_iterations
        self.first_foreground = first_foreground
        self.iteration = 0  # set by CountIterations

    def logits(self, inputs: Tensor) -> Tensor:
        """Mean of both networks' logits: normalised photos [B, 3, H, W] -> [B, C, h, w]."""
        return torch.stack([network.logits(inputs) for network in self.networks]).mean(0)

    def _each(self, inputs: Tensor) -> list[Tensor]:
        """Both networks' logits at the photos' size."""
        return [
            F.interpolate(network.logits(inputs), inputs.shape[2:], mode="bilinear")
            for network in self.networks
        ]

    @torch.no_grad()
    def _online(self, batch: LabelledPhotos) -> LabelledPhotos:
        self.eval()
        predicted = online(batch, self._each(batch.photos), self.confidence)
        self.train()
        return predicted

    def _strong(self, photos: Tensor) -> Tensor:
        """Apply the strong colour augmentation to normalised photos."""
        mean, std = self.data_preprocessor.mean, self.data_preprocessor.std
        pixels = (photos * std + mean) / 255
        return (255 * strong_colours(pixels.clamp(0, 1)) - mean) / std

    def prepared(self, batch: LabelledPhotos) -> tuple[LabelledPhotos, Tensor]:
        """The batch to train on, and the weights [B, H, W] of its supervised terms: none during the
        warm-up."""
        predicted = self._online(batch) if self.iteration >= self.warmup_iterations else None
        batch, pasted = mixed(
            batch,
            predicted,
            probability=self.mix,
            first_foreground=self.first_foreground,
            online_labels=self.online_labels,
        )
        extra = 0.0 if predicted is None else self.boundary_weight
        weights = boundary_weights(pasted, self.boundary_size, extra)
        if self.strong_colour:
            batch = batch._replace(photos=self._strong(batch.photos))
        return batch, weights

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        known = torch.stack([sample.gt_sem_seg.data for sample in data_samples])  # [B, 2, H, W]
        batch, weights = self.prepared(LabelledPhotos(inputs, known[:, 0], known[:, 1]))
        one, two = self._each(batch.photos)
        return {
            "loss_0": cotraining_loss(one, two, batch.labels, batch.reliability, weights),
            "loss_1": cotraining_loss(two, one, batch.labels, batch.reliability, weights),
        }

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        return self.postprocess_result(self.encode_decode(inputs, data_samples), data_samples)

    def encode_decode(self, inputs: Tensor, batch_data_samples: list | None) -> Tensor:
        return F.interpolate(self.logits(inputs), inputs.shape[2:], mode="bilinear")

    def extract_feat(self, inputs: Tensor) -> list:
        return [network.extract_feat(inputs) for network in self.networks]

    def _forward(self, inputs: Tensor, data_samples: list | None = None) -> Tensor:
        return self.logits(inputs)


@TRANSFORMS.register_module()
class LoadReliability(BaseTransform):
    """Load the reliability map: a file's pixels above 0, or without a file all labelled pixels."""

    def transform(self, results: dict) -> dict:
        labels, path = results["gt_seg_map"], results.get("reliability_path")
        if path is None:
            reliable = labels != NOTHING
        else:
            reliable = read_reliability(path)
            if reliable.shape != labels.shape:
                raise UserError(
                    f"{path}: {reliable.shape[1]}x{reliable.shape[0]} pixels, its mask has "
                    f"{labels.shape[1]}x{labels.shape[0]}; give the folder of these masks' maps"
                )
        results["gt_reliability"] = reliable.astype(np.uint8)
        results["seg_fields"].append("gt_reliability")
        return results


def read_reliability(path: str | Path) -> np.ndarray:
    """Read a reliability map from a grey PNG: [H, W] bool, true for values above 0."""
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image)
    except OSError as problem:
        raise UserError(f"{path}: not readable ({problem}); make the masks again") from None
    if pixels.ndim != 2:
        raise UserError(f"{path}: has colours; a reliability map is a grey PNG, 0 where unreliable")
    return pixels > 0


@TRANSFORMS.register_module()
class PackWithReliability(PackSegInputs):
    """Pack reliability as a second channel of the labels, so that both are padded with NOTHING."""

    def transform(self, results: dict) -> dict:
        packed = super().transform(results)
        labels = packed["data_samples"].gt_sem_seg
        reliability = torch.from_numpy(np.ascontiguousarray(results["gt_reliability"])).long()
        labels.data = torch.cat([labels.data, reliability[None]])
        return packed


@HOOKS.register_module()
class CountIterations(Hook):
    """Set the model's iteration, also when training is resumed."""

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        getattr(runner.model, "module", runner.model).iteration = batch_idx
