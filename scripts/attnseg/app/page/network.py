"""The network behind the page: one request at a time, each pass counted."""

import argparse
import importlib.util
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch

from attnseg.app.photo import asked, vocabulary
from attnseg.attn2mask.generate import Generated, generate
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.backbones import load_backbone
from attnseg.errors import UserError
from attnseg.io.gpu import claim_device
from attnseg.settings import Generation, read_settings
from attnseg.text2mask.extract import Sample
from attnseg.text2mask.kept import Kept, look
from attnseg.text2mask.options import Options

EXAMPLES = (0, 2, 5, 8, 11, 21)  # scenes of mini VOC's split val


class Network:
    """A model as the flags of `attnseg serve` name it.

    `passes`: how many noisy images went through the denoiser since the start, of photos and pictures.
    """

    def __init__(self, args: argparse.Namespace):
        self.args = args
        device = claim_device(args.device)
        self.backbone = load_backbone(args.model, args.revision, device, file=args.model_file)
        self.options(args.noises, 0)  # a block that the model lacks is said now
        self.crf = importlib.util.find_spec("pydensecrf") is not None
        self.lattices: dict = {}  # of the CRF, of the photo that was refined last
        self.passes = 0
        self._one_at_a_time = threading.Lock()

    def options(self, noises: int, seed: int, **more: Any) -> Options:
        """Those of `attnseg segment` with these flags."""
        given = argparse.Namespace(
            cross_blocks=self.args.cross_blocks,
            self_block=self.args.self_block,
            noises=noises,
            seed=seed,
            iterations=None,
            reading="attention",
        )
        return asked(self.backbone, given, noises, **more)

    @contextmanager
    def _alone(self, begun: Callable[[int], object]) -> Iterator[None]:
        """The network for one visitor, since hooks record the attention of whoever runs it.

        `begun` is told the number of calls of the denoiser that have begun: while the visitor waits for
        others, and at each block. What it raises ends the work there.
        """
        while not self._one_at_a_time.acquire(timeout=0.2):
            begun(0)
        blocks = [place.module for place in self.backbone.blocks.values()]
        number = 0

        def at(block: torch.nn.Module, _: object) -> None:
            nonlocal number
            if block is blocks[0]:
                number += 1
            begun(number)

        hooks = [block.register_forward_pre_hook(at) for block in dict.fromkeys(blocks)]
        try:
            with torch.no_grad():
                yield
        finally:
            for hook in hooks:
                hook.remove()
            self._one_at_a_time.release()

    def look(
        self,
        sample: Sample,
        synonyms: dict[str, str],
        background_words: str | None,
        noises: int,
        seed: int,
        begun: Callable[[int], object],
    ) -> tuple[Kept, float]:
        """The attention of a photo, and the seconds that it took, without waiting for others; `begun` as
        of `_alone`."""
        pairs = ",".join(f"{name}={word}" for name, word in synonyms.items()) or None
        words = argparse.Namespace(synonyms=pairs, background_words=background_words)
        options = self.options(noises, seed, vocabulary=vocabulary(words, sample.classes))
        with self._alone(begun):
            start = time.perf_counter()
            kept = look(self.backbone, sample, options)
            self.passes += kept.passes
            return kept, time.perf_counter() - start

    def draw(
        self, prompt: Prompt, steps: int, guidance: float, begun: Callable[[int], object]
    ) -> tuple[Generated, float]:
        """A picture of a prompt with the attention of its words, and the seconds that it took; `begun` as
        of `_alone`, one call per step.

        Raises:
            UserError: if nothing could be drawn.
        """
        given = {"steps": steps, "attention_step": (steps + 1) // 2, "guidance": guidance}
        sampling = read_settings(Generation, given)
        with self._alone(begun):
            start = time.perf_counter()
            ((drawn,),) = generate(self.backbone, [prompt], sampling, 1)
            if drawn.skipped:
                raise UserError(drawn.skipped)
            self.passes += 2 * steps  # with and without the prompt
            return drawn, time.perf_counter() - start

    @cached_property
    def examples(self) -> list[Sample]:
        """Scenes of the mini world, if the model is as small as its own and the drawings are here."""
        if max(self.backbone.size) > 64:
            return []
        from attnseg.mini.world.splits import voc_scene

        try:
            scenes = [voc_scene(0, "val", index) for index in EXAMPLES]
        except FileNotFoundError:  # the drawings are in a clone alone
            return []
        return [Sample(f"scene-{i}", s.image, s.classes()) for i, s in enumerate(scenes, 1)]
