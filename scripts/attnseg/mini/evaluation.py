"""Evaluate readings of the attention on mini dev while a miniature is trained."""

from collections.abc import Callable

import numpy as np
import torch

from attnseg.backbones.interface import Text
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.backbones.stable_diffusion_3 import StableDiffusion3
from attnseg.core.maps import min_max
from attnseg.core.scores import upsample, with_background
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.mini.recipes import Recipe
from attnseg.mini.training import encode
from attnseg.mini.world.splits import VOC_SPLITS, voc_scene
from attnseg.text2mask.queries import text_query


class Dev:
    """The scenes of mini dev that have objects, the paper's queries of them, and one noise."""

    def __init__(self, backbone: StableDiffusion | StableDiffusion3, seed: int, device: str):
        scenes = [voc_scene(seed, "dev", i) for i in range(VOC_SPLITS["dev"][1])]
        self.scenes = [scene for scene in scenes if scene.things]
        self.truths = [scene.labels(VOC_CLASSES) for scene in self.scenes]
        self.queries = [text_query(scene.classes()) for scene in self.scenes]
        self.positions = [backbone.token_positions(query) for query in self.queries]
        images = np.stack([scene.image for scene in self.scenes])
        self.latents = encode(backbone.vae, images, device) * backbone.vae.config.scaling_factor
        generator = torch.Generator().manual_seed(seed)
        self.noise = torch.randn(self.latents.shape, generator=generator)
        self.backbone, self.device = backbone, device

    def inputs(self, timestep: int) -> tuple[torch.Tensor, int, Text]:
        """Noisy latents, the timestep and the encoded queries, as `attention_maps` takes them."""
        noisy = self.backbone.add_noise(self.latents, self.noise, timestep).to(self.device)
        return noisy, timestep, self.backbone.encode_text([query.text for query in self.queries])

    def miou(self, maps: list[torch.Tensor]) -> float:
        """Mean IoU of maps over 21 classes, in per cent, without a CRF."""
        return miou(maps, self.scenes, self.truths)


def dev_evaluation(recipe: Recipe, seed: int, device: str) -> Callable[[], dict[str, float]]:
    """A function that returns the mIoU of each reading, {"cross": ..., ...}, in per cent."""
    dev = Dev(recipe.backbone, seed, device)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        found = recipe.readings(*dev.inputs(recipe.timestep), dev.queries, dev.positions)
        return {name: dev.miou(maps) for name, maps in found}

    return evaluate


def miou(maps: list[torch.Tensor], scenes: list, truths: list[np.ndarray]) -> float:
    """Mean IoU, in per cent, of the arg max of maps and background."""
    classes = len(VOC_CLASSES) + 1
    confusion = np.zeros((classes, classes), np.int64)
    for attention, scene, truth in zip(maps, scenes, truths, strict=True):
        numbers = np.array([0, *(1 + VOC_CLASSES.index(name) for name in scene.classes())])
        scores = upsample(with_background(min_max(attention)), truth.shape)
        predicted = numbers[scores.argmax(0).numpy()]
        pairs = classes * truth.astype(np.int64).ravel() + predicted.ravel()
        confusion += np.bincount(pairs, minlength=classes**2).reshape(classes, classes)
    right = np.diag(confusion)
    union = confusion.sum(0) + confusion.sum(1) - right
    return float(100 * np.mean(right[union > 0] / union[union > 0]))
