"""What the miniature's attention is worth while it trains: Cross and SelfCross on mini dev."""

import numpy as np
import torch

from attnseg.core.maps import min_max
from attnseg.datasets.voc import CLASSES as VOC_CLASSES
from attnseg.diffusion.attention import attention_maps
from attnseg.diffusion.mini_training import encode
from attnseg.masks.scores import upsample, with_background
from attnseg.mini_world.splits import VOC_SPLITS, voc_scene
from attnseg.prompts import encode_text, text_query, token_positions

CROSS_BLOCKS = tuple(range(7))  # 8x8 and 4x4
SELF_BLOCKS = (7, 8)  # 16x16


def dev_evaluation(parts: dict, seed: int, device: str, timestep: int = 150):
    """A function that returns {"cross": mIoU, "selfcross_7": mIoU, ...}, per cent over 21 classes.

    One noise, no CRF, the paper's query; the same Cross blocks for all.
    """
    scenes = [voc_scene(seed, "dev", i) for i in range(VOC_SPLITS["dev"][1])]
    scenes = [scene for scene in scenes if scene.things]
    truths = [scene.labels(VOC_CLASSES) for scene in scenes]
    queries = [text_query(scene.classes()) for scene in scenes]
    positions = [token_positions(parts["tokenizer"], query) for query in queries]
    tokens = encode_text(parts["tokenizer"], [query.text for query in queries], device)
    images = np.stack([scene.image for scene in scenes])
    latents = encode(parts["vae"], images, device) * parts["vae"].config.scaling_factor
    abar = parts["scheduler"].alphas_cumprod[timestep]
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(seed))
    noisy = (abar.sqrt() * latents + (1 - abar).sqrt() * noise).to(device)

    @torch.no_grad()
    def evaluate() -> dict[str, float]:
        parts["unet"].eval(), parts["text_encoder"].eval()
        text = parts["text_encoder"](tokens).last_hidden_state
        scores = {}
        for block in SELF_BLOCKS:
            maps = attention_maps(
                parts["unet"], noisy, timestep, text, positions,
                cross_blocks=CROSS_BLOCKS, self_block=block,
            )  # fmt: skip
            if "cross" not in scores:
                scores["cross"] = miou([m.cross for m in maps], scenes, truths)
            scores[f"selfcross_{block}"] = miou([m.selfcross for m in maps], scenes, truths)
        parts["unet"].train(), parts["text_encoder"].train()
        return scores

    return evaluate


def miou(maps: list[torch.Tensor], scenes: list, truths: list[np.ndarray]) -> float:
    """Mean IoU, per cent, of the arg max of the maps and their background."""
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
