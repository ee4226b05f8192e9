"""Evaluate Cross and SelfCross on mini dev while the miniature is trained."""

from collections.abc import Callable

import numpy as np
import torch
from diffusers.models.attention_processor import AttnProcessor2_0

from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.core.maps import min_max
from attnseg.core.scores import upsample, with_background
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.mini.training import encode
from attnseg.mini.world.splits import VOC_SPLITS, voc_scene
from attnseg.text2mask.attention import attention_maps
from attnseg.text2mask.queries import text_query

CROSS_BLOCKS = tuple(range(7))  # 8x8 and 4x4
SELF_BLOCKS = (7, 8)  # 16x16


def dev_evaluation(
    backbone: StableDiffusion, seed: int, device: str, timestep: int = 150
) -> Callable[[], dict[str, float]]:
    """A function that returns {"cross": mIoU, "selfcross_7": mIoU, ...}, per cent over 21 classes.

    Over 21 classes, with one noise, no CRF, the paper's query, and the same Cross blocks for all.
    """
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
        backbone.unet.eval(), backbone.text_encoder.eval()
        # The training's processors bypass the attention function that is recorded.
        processors = backbone.unet.attn_processors
        backbone.unet.set_attn_processor(AttnProcessor2_0())
        text = backbone.encode_text([query.text for query in queries])
        scores = {}
        for block in SELF_BLOCKS:
            maps = attention_maps(
                backbone, noisy, timestep, text, positions,
                cross_blocks=CROSS_BLOCKS, self_block=block,
            )  # fmt: skip
            if "cross" not in scores:
                scores["cross"] = miou([m.cross for m in maps], scenes, truths)
            scores[f"selfcross_{block}"] = miou([m.selfcross for m in maps], scenes, truths)
        backbone.unet.set_attn_processor(processors)
        backbone.unet.train(), backbone.text_encoder.train()
        return scores

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
