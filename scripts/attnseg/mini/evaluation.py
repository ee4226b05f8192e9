"""Evaluate readings of the attention on mini dev while a miniature is trained."""

from collections.abc import Callable

import numpy as np
import torch

from attnseg.core.maps import min_max
from attnseg.core.scores import upsample, with_background
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.mini.recipes import Recipe
from attnseg.mini.training import encode
from attnseg.mini.world.splits import VOC_SPLITS, voc_scene
from attnseg.text2mask.queries import text_query


def dev_evaluation(recipe: Recipe, seed: int, device: str) -> Callable[[], dict[str, float]]:
    """A function that returns the mIoU of each reading, {"cross": ..., ...}, in per cent.

    Over 21 classes, with one noise, no CRF and the paper's query.
    """
    backbone, timestep = recipe.backbone, recipe.timestep
    scenes = [voc_scene(seed, "dev", i) for i in range(VOC_SPLITS["dev"][1])]
    scenes = [scene for scene in scenes if scene.things]
    truths = [scene.labels(VOC_CLASSES) for scene in scenes]
    queries = [text_query(scene.classes()) for scene in scenes]
    positions = [backbone.token_positions(query) for query in queries]
    images = np.stack([scene.image for scene in scenes])
    latents = encode(backbone.vae, images, device) * backbone.vae.config.scaling_factor
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    noisy = backbone.add_noise(latents, noise, timestep).to(device)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        text = backbone.encode_text([query.text for query in queries])
        found = recipe.readings(noisy, timestep, text, queries, positions)
        return {name: miou(maps, scenes, truths) for name, maps in found}

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
