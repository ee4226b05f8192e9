"""Prompts of the mini world."""

from collections.abc import Iterator

import numpy as np

from attnseg.attn2mask.prompt_sets import Prompt, named_captions, numbered
from attnseg.datasets.voc import DATASET as VOC
from attnseg.mini.world.captions import caption
from attnseg.mini.world.scenes import object_scene

STREAM = 2_000_000  # apart from the scenes of the training and of every split


def mini_world_prompts(count: int, seed: int) -> list[Prompt]:
    """Prompts from captions of scenes like those of the mini model's training, and none of them."""

    def texts() -> Iterator[tuple[str, list, list]]:
        index = 0
        while True:
            rng = np.random.default_rng([seed, STREAM, index])
            yield from named_captions([caption(rng, object_scene(rng, VOC.classes))], VOC)
            index += 1

    return numbered(VOC.name, seed, texts(), count)
