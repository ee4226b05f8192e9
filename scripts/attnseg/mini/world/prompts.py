"""Prompts for image generation in the mini world."""

from collections.abc import Iterator

import numpy as np

from attnseg.attn2mask.prompt_sets import Prompt, named_captions, numbered
from attnseg.datasets.voc import DATASET as VOC
from attnseg.mini.world.captions import caption
from attnseg.mini.world.scenes import object_scene

STREAM = 2_000_000  # differs from the random streams of the training and of all splits


def mini_world_prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts from captions of new scenes, drawn like those of the mini model's training."""

    def texts() -> Iterator[tuple[str, list, list]]:
        index = 0
        while True:
            rng = np.random.default_rng([seed, STREAM, index])
            yield from named_captions([caption(rng, object_scene(rng, VOC.classes))], VOC)
            index += 1

    return numbered(VOC.name, seed, texts(), count)
