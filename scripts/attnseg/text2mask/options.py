"""The settings of an extraction, with what suits a model where they say nothing."""

from collections.abc import Sequence
from typing import Any

from attnseg.backbones.interface import Backbone, Block
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.settings import ExtractionJob
from attnseg.settings.attention import BLOCKS, Resize
from attnseg.settings.base import Blocks, SelfBlocks, Timestep, key
from attnseg.text2mask.queries import USUAL


class Options(ExtractionJob):
    """Settings of the extraction for a model, and those that depend on the data set.

    The defaults are Text2Mask's, of Stable Diffusion 1.x and 2.x.
    """

    cross_blocks: Blocks = key(BLOCKS, "As of Model.")
    self_block: SelfBlocks | None = key(11, "As of Model.")
    timestep: Timestep = key(150, "As of Extraction.")
    resize: Resize = key("official", "As of Extraction.")
    vocabulary: Any = USUAL  # a Dataset: its synonyms and background words are used
    box_threshold: float | None = None  # only in the official profile

    def identity(self) -> dict:
        return super().identity() | {"vocabulary": self.vocabulary.vocabulary()}


def options_for(
    backbone: Backbone,
    cross_blocks: Sequence[int | str] | None = None,
    self_block: int | str | list[int | str] | None = None,
    **others: Any,
) -> Options:
    """Options, by default those that suit the model.

    Raises:
        UserError: if the model lacks a block, or cannot be read so.
    """
    if cross_blocks:
        others["cross_blocks"] = list(cross_blocks)
    if self_block is not None:
        others["self_block"] = self_block
    options = Options(**usual_of(backbone, others.get("reading")) | others)
    blocks_of(backbone, options)
    return options


def usual_of(backbone: Backbone, reading: str | None) -> dict[str, Any]:
    """The options that suit the model."""
    cross_blocks, self_block = backbone.default_blocks
    if reading == "output":
        cross_blocks = backbone.default_output_blocks or cross_blocks
    return {
        "cross_blocks": list(cross_blocks),
        "self_block": self_block,
        "timestep": backbone.default_timestep,
        "resize": backbone.default_resize,
    }


def options_of(backbone: Backbone, job: ExtractionJob, **others: Any) -> Options:
    """Options of a job: what is `usual` is the paper's of Stable Diffusion 1.x and 2.x, else the model's.

    Raises:
        UserError: if the model lacks a block, or cannot be read so.
    """
    told = {name: value for name, value in job.dump().items() if value != "usual"}
    usual = {} if isinstance(backbone, StableDiffusion) else usual_of(backbone, job.reading)
    options = Options(**usual | told | others)
    blocks_of(backbone, options)
    return options


def blocks_of(backbone: Backbone, options: Options) -> tuple[list[Block], list[Block]]:
    """The blocks whose Cross is read, and those whose Self propagates it.

    Raises:
        UserError: if the model lacks one, or does not have the reading.
    """
    crosses, selves = backbone.select(options.cross_blocks, options.self_block)
    if options.reading == "output":
        backbone.check_output(max(block.number for block in crosses))
    return crosses, selves
