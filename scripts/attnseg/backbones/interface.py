"""The interface of a family of text-to-image models; other code depends on no particular family.

A family is one file with a subclass of `Backbone`, and a line in `attnseg.backbones`; or a file that
the configuration names and that exports it as `BACKBONE`.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from attnseg.backbones.capture import Seen, record
from attnseg.backbones.model_files import weight_hashes
from attnseg.backbones.text import Query
from attnseg.errors import UserError
from attnseg.io.files import sha256

Resize = Literal["official", "native", "none"]


class Block(NamedTuple):
    """One attention of a denoiser.

    `number`: of its transformer block, in forward order. `role`: "self", "cross", or "joint", where
    image and text attend to each other in one softmax.
    """

    number: int
    role: str


class Attention(NamedTuple):
    """The module of an attention, how often the latent's grid is halved there, and the part of a U-Net."""

    module: torch.nn.Module
    halvings: int
    part: Literal["", "encoder", "middle", "decoder"] = ""

    @property
    def place(self) -> str:
        """As ``1/2 decoder``."""
        return f"1/{2**self.halvings} {self.part}".rstrip()


@dataclass(frozen=True)
class Text:
    """Encoded texts: hidden states [B, L, D], and other inputs of the denoiser, [B, ...] each."""

    hidden: torch.Tensor
    more: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __getitem__(self, rows: slice | Sequence[int]) -> Self:
        return type(self)(self.hidden[rows], {name: t[rows] for name, t in self.more.items()})


@dataclass(frozen=True)
class Posterior:
    """The distribution of encoded images: [B, C, h, w] float32 on the CPU, unscaled."""

    mean: torch.Tensor
    std: torch.Tensor
    scaling_factor: float | torch.Tensor = 1.0
    shift: float | torch.Tensor = 0.0

    def latents(self, noise: torch.Tensor | None = None) -> torch.Tensor:
        """Latents scaled for the denoiser: a sample from standard normal `noise`, or the mean."""
        sample = self.mean if noise is None else self.mean + self.std * noise
        return (sample - self.shift) * self.scaling_factor


class Denoiser(ABC):
    """A denoising network whose attention can be recorded."""

    image_first = False  # whether joint attention has the image's tokens before the text's
    filled_to = 1  # and then fills them up to a multiple of this

    @property
    def output_blocks(self) -> int:
        """How many blocks `attnseg.backbones.concepts` reads, from the first on."""
        return 0

    @property
    def default_output_blocks(self) -> tuple[int, ...]:
        """Those of them that are read by default: all (ConceptAttention, of Stable Diffusion 3.5)."""
        return tuple(range(self.output_blocks))

    @property
    @abstractmethod
    def device(self) -> torch.device: ...

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype: ...

    @property
    @abstractmethod
    def blocks(self) -> Mapping[Block, Attention]:
        """All attentions in forward order."""

    @abstractmethod
    def denoise(
        self, noisy: torch.Tensor, timestep: torch.Tensor | int, text: Text
    ) -> torch.Tensor:
        """Predict noise or velocity: [B, C, h, w] float32.

        `noisy`: [B, C, h, w]. `timestep`: in [0, 999], one or [B]. `text`: of B texts.
        """

    def record(
        self,
        blocks: Iterable[tuple[int, str]],
        stop: bool = True,
        values: bool = False,
        keep: Callable[[Block, Seen], Any] = lambda _, seen: seen,
    ) -> AbstractContextManager[dict[Block, Any]]:
        """Record blocks, as (5, "cross"), while `denoise` runs: see `attnseg.backbones.capture`."""
        return record(
            {b: self.blocks[b].module for b in itertools.starmap(Block, blocks)},
            stop=stop,
            values=values,
            keep=keep,
        )

    def without_text(self, timestep: torch.Tensor | int, count: int) -> torch.Tensor:
        """The condition of concepts, [count, D]: the time, and zeros for the pooled text."""
        raise NotImplementedError

    def around(self, block: Block, others: int) -> tuple[int, int]:
        """How many of the `others`, tokens that are not the image's, are before and after it in a block."""
        if block.role != "joint":
            return 0, 0
        return (0, others) if self.image_first else (others, 0)

    def first_word(self, cells: int) -> int:
        """The place of the text's first token in joint attention, of an image with `cells` tokens."""
        return -(-cells // self.filled_to) * self.filled_to if self.image_first else 0

    def select(
        self,
        cross: Sequence[int | str] | None,
        own: int | str | Sequence[int | str] | None = None,
    ) -> tuple[list[Block], list[Block]]:
        """The cross-attentions of the blocks `cross`, or of all, and the self-attentions of `own`.

        Blocks are numbers, or places, as ``1/4``, ``decoder`` or ``1/2 decoder``: all that are there.
        Either is the joint attention, where the model has that.

        Raises:
            UserError: if the model lacks a block, when the message lists those that it has; or if
                those of `own` lie on several grids.
        """
        joint = any(block.role == "joint" for block in self.blocks)
        cross_role, self_role = ("joint", "joint") if joint else ("cross", "self")
        if own is None:
            own = []
        elif all(block.role != self_role for block in self.blocks):
            raise UserError(
                f"self-attention block {own}: this model has no self-attention with a softmax, so "
                "nothing is propagated; write null in model.self_block, leave out --self-block"
            )
        elif isinstance(own, int | str):
            own = [own]
        numbers = [block.number for block in self.blocks if block.role == cross_role]
        wrong: list[int | str] = []

        def found(names: Sequence[int | str], role: str) -> list[Block]:
            blocks: list[Block] = []
            for name in names:
                here = [
                    block
                    for block, at in self.blocks.items()
                    if block.role == role
                    and (block.number == name or set(str(name).split()) <= set(at.place.split()))
                ]
                blocks += here
                wrong.extend([] if here else [name])
            return list(dict.fromkeys(blocks))

        chosen = found(numbers if cross is None else cross, cross_role)
        selves = found(own, self_role)
        if wrong or not chosen:
            raise UserError(
                f"attention blocks {wrong or 'for Cross: none given'}: this model has blocks 0 to "
                f"{max(numbers)} ({self.description}); choose among them: "
                "--cross-blocks and --self-block, in a configuration model.cross_blocks, "
                "model.self_block and generation.cross_blocks"
            )
        if len({self.blocks[block].halvings for block in selves}) > 1:
            places = ", ".join(f"{block.number}: {self.blocks[block].place}" for block in selves)
            raise UserError(
                f"self-attention blocks on several grids ({places}): give some of one grid in "
                "model.self_block (--self-block)"
            )
        return chosen, selves

    def check_output(self, number: int) -> None:
        """Raise a `UserError` if a block cannot be read in the space of its outputs."""
        if not self.output_blocks:
            raise UserError(
                "reading output: it compares outputs of joint attention, of FLUX.1's double blocks and "
                "Stable Diffusion 3; this model is read by attention (extraction.reading, --reading)"
            )
        if number >= self.output_blocks:
            raise UserError(
                f"block {number}: the reading `output` is for FLUX.1's double blocks and Stable "
                f"Diffusion 3, here for the first {self.output_blocks} blocks; choose among them, or "
                "read attention (extraction.reading, --reading)"
            )

    @property
    def description(self) -> str:
        """Where the blocks are, as ``0-1: 1/1 encoder, 2-3: 1/2 encoder, ...``."""
        places = {block.number: at.place for block, at in self.blocks.items()}
        runs = []
        for place, group in itertools.groupby(places, places.__getitem__):
            first, *rest = group
            runs.append(f"{first}{f'-{rest[-1]}' if rest else ''}: {place}")
        return ", ".join(runs)

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], int | None]:
        """Default blocks for cross-attention, and the one for self-attention, None if there is none.

        For the 16 blocks of Stable Diffusion those of Text2Mask. Otherwise self-attention is read at
        the decoder's first block on the finest grid, and cross-attention at the blocks just before
        it, on the next coarser grid.
        """
        halvings = {block.number: place.halvings for block, place in self.blocks.items()}
        if len(halvings) == 16:
            return (4, 5, 6, 7, 8), 11
        runs = [list(group) for _, group in itertools.groupby(halvings, halvings.__getitem__)]
        return tuple(runs[-2]) if len(runs) > 1 else (0,), runs[-1][0]


class Backbone(Denoiser):
    """A complete text-to-image model, its networks in evaluation mode and without gradients."""

    default_timestep = 150  # Text2Mask's, of 1000
    name: str  # the folder, or id@revision
    folder: Path  # where the files lie
    file: Path | None = None  # of a family that the configuration names
    scheduler: SchedulerMixin

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        """Load the model from a folder in diffusers' layout.

        Raises:
            UserError: if a file is missing or wrong.
        """

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the images that the model was trained on."""

    @property
    def default_resize(self) -> Resize:
        """The extraction's `resize` that suits the model."""
        return "native"

    @property
    @abstractmethod
    def multiple(self) -> int:
        """The number of pixels of which an image's sides must be multiples."""

    @abstractmethod
    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """(channels, height, width) of the latents of an image of `size`, (height, width)."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Text:
        """Encode texts for the denoiser, padded or truncated to the text encoder's window."""

    @abstractmethod
    def token_positions(self, query: Query) -> list[list[int]]:
        """Token positions of each class of a query in `Text.hidden`.

        Raises:
            TooLong: if a class's tokens do not fit the text encoder's window.
        """

    @abstractmethod
    def encode_images(self, pixels: torch.Tensor) -> Posterior:
        """Encode images [B, 3, H, W] float32 in [-1, 1]; H and W are multiples of `multiple`."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Decode latents [B, C, h, w] to images [B, H, W, 3] uint8."""

    @abstractmethod
    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        """Noisy latents at `timestep`, one or [B]; `latents` and `noise` are [B, C, h, w]."""

    @abstractmethod
    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """The training target of `denoise` at `timestep` [B]: the noise, or the velocity."""

    @abstractmethod
    def pipeline(self, scheduler: SchedulerMixin | None = None) -> DiffusionPipeline:
        """A diffusers pipeline that shares the networks; `scheduler` replaces the model's own."""

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what it is read from, by name: its weights, as ``<component>/<file>``; of a family
        that the configuration names every file of the folder, and the family's own."""
        if self.file is None:
            return weight_hashes(self.folder)
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        hashes = {file.relative_to(self.folder).as_posix(): sha256(file) for file in files}
        return hashes | {f"BACKBONE of {self.file.name}": sha256(self.file)}

    def shape_of(self, size: tuple[int, int] | None) -> tuple[int, int, int]:
        """`latent_shape` of a size given by the user, or of the model's own size for None.

        Raises:
            UserError: if a side is not a multiple of `multiple`.
        """
        if size is not None and (size[0] % self.multiple or size[1] % self.multiple):
            raise UserError(
                f"images of {size[0]}x{size[1]} pixels: this model's sides are multiples of "
                f"{self.multiple}"
            )
        return self.latent_shape(size or self.size)
