"""What a family of text-to-image models provides; all other code knows no family.

A family is one file with a subclass of `Backbone`, and a line in `attnseg.backbones`; or a file that
the configuration names and that exports it as `BACKBONE`.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from attnseg.backbones.capture import Seen, record
from attnseg.backbones.model_files import weight_hashes
from attnseg.backbones.text import Query
from attnseg.errors import UserError
from attnseg.io.files import sha256


class Block(NamedTuple):
    """An attention of a denoiser: its transformer block, in forward order, and what it is.

    `role`: "self", "cross", or "joint" where image and text attend to each other in one softmax.
    """

    number: int
    role: str


class Attention(NamedTuple):
    """The module of a block, and how often the latent's grid is halved there."""

    module: torch.nn.Module
    halvings: int


@dataclass(frozen=True)
class Text:
    """Encoded texts: `hidden` [B, L, D], and what else the family's denoiser is told, [B, ...]."""

    hidden: torch.Tensor
    more: Mapping[str, torch.Tensor] = field(default_factory=dict)

    def __getitem__(self, rows: slice | Sequence[int]) -> Self:
        return type(self)(self.hidden[rows], {name: t[rows] for name, t in self.more.items()})


@dataclass(frozen=True)
class Posterior:
    """Of encoded images: `mean` and `std` [B, C, h, w] float32 on the CPU, as the encoder has them."""

    mean: torch.Tensor
    std: torch.Tensor
    factor: float = 1.0
    shift: float = 0.0

    def latents(self, noise: torch.Tensor | None = None) -> torch.Tensor:
        """As the denoiser takes them: a sample by this noise, or the mean."""
        sample = self.mean if noise is None else self.mean + self.std * noise
        return (sample - self.shift) * self.factor


class Denoiser(ABC):
    """A network whose attention can be read."""

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
        """The network's prediction [B, C, h, w] float32 for noisy latents at 0 to 999 of 1000 steps."""

    def record(
        self, blocks: Iterable[tuple[int, str]], stop: bool = True, values: bool = False
    ) -> AbstractContextManager[dict[Block, Seen]]:
        """Record blocks, as (5, "cross"), while `denoise` runs: see `attnseg.backbones.capture`."""
        return record(
            {b: self.blocks[b].module for b in itertools.starmap(Block, blocks)},
            stop=stop,
            values=values,
        )

    def select(self, cross: Sequence[int] | None, self_block: int | None = None) -> list[Block]:
        """Cross-attentions by number, all for None, and the self-attention of a block after them.

        Raises:
            UserError: with a list of what there is, for a number that is none.
        """
        numbers = [block.number for block in self.blocks if block.role == "cross"]
        chosen = [Block(n, "cross") for n in (numbers if cross is None else cross)]
        blocks = chosen + ([] if self_block is None else [Block(self_block, "self")])
        wrong = [block.number for block in blocks if block not in self.blocks]
        if wrong or not chosen:
            raise UserError(
                f"attention blocks {wrong or 'for Cross: none given'}: this model has blocks 0 to "
                f"{max(numbers)} ({self.description}); choose among them: "
                "--cross-blocks and --self-block, in a configuration model.cross_blocks, "
                "model.self_block and generation.cross_blocks"
            )
        return blocks

    @property
    def description(self) -> str:
        """The blocks and their share of the latent's resolution, as ``0-1: 1/1, 2-3: 1/2, ...``."""
        halvings = {block.number: place.halvings for block, place in self.blocks.items()}
        runs = []
        for level, group in itertools.groupby(halvings, halvings.__getitem__):
            first, *rest = group
            runs.append(f"{first}{f'-{rest[-1]}' if rest else ''}: 1/{2**level}")
        return ", ".join(runs)

    @property
    def default_blocks(self) -> tuple[tuple[int, ...], int]:
        """Cross blocks and the Self block to use where none are configured.

        Text2Mask's for the 16 blocks of Stable Diffusion; else Self is where the decoder reaches the
        finest grid, and Cross are the blocks right before it, on a coarser one.
        """
        halvings = {block.number: place.halvings for block, place in self.blocks.items()}
        if len(halvings) == 16:
            return (4, 5, 6, 7, 8), 11
        runs = [list(group) for _, group in itertools.groupby(halvings, halvings.__getitem__)]
        return tuple(runs[-2]) if len(runs) > 1 else (0,), runs[-1][0]


class Backbone(Denoiser):
    """A whole model, its networks in evaluation mode and without gradients."""

    default_timestep = 150  # of Text2Mask
    name: str  # the folder, or id@revision
    folder: Path  # where the files lie
    file: Path | None = None  # of a family that the configuration names
    scheduler: SchedulerMixin

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, name: str, device: torch.device, dtype: torch.dtype) -> Self:
        """From a folder in diffusers' layout; a `UserError` names what is missing or wrong in it."""

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width in pixels that the model was trained at."""

    @property
    @abstractmethod
    def multiple(self) -> int:
        """An image's sides are multiples of so many pixels."""

    @abstractmethod
    def latent_shape(self, size: tuple[int, int]) -> tuple[int, int, int]:
        """Channels, height and width of the latents of an image of that size."""

    @abstractmethod
    def encode_text(self, texts: Sequence[str]) -> Text:
        """Texts as the denoiser reads them."""

    @abstractmethod
    def token_positions(self, query: Query) -> list[list[int]]:
        """Per class of a query, the positions of its tokens in `Text.hidden`.

        Raises:
            UserError: where a class's tokens do not fit the text encoder's window.
        """

    @abstractmethod
    def encode_images(self, pixels: torch.Tensor) -> Posterior:
        """[B, 3, H, W] float32 in [-1, 1], sides multiples of `multiple`."""

    @abstractmethod
    def decode(self, latents: torch.Tensor) -> np.ndarray:
        """Latents [B, C, h, w] -> images [B, H, W, 3] uint8."""

    @abstractmethod
    def add_noise(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor | int
    ) -> torch.Tensor:
        """What the denoiser takes at `timestep`."""

    @abstractmethod
    def target(
        self, latents: torch.Tensor, noise: torch.Tensor, timestep: torch.Tensor
    ) -> torch.Tensor:
        """What the denoiser should predict there, for training."""

    @abstractmethod
    def pipeline(self, scheduler: SchedulerMixin | None = None) -> DiffusionPipeline:
        """The pipeline of diffusers that users know; it shares the networks."""

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what it is read from, by name: its weights, as ``<component>/<file>``; of a family
        that the configuration names every file of the folder, and the family's own."""
        if self.file is None:
            return weight_hashes(self.folder)
        files = sorted(file for file in self.folder.rglob("*") if file.is_file())
        hashes = {file.relative_to(self.folder).as_posix(): sha256(file) for file in files}
        return hashes | {f"BACKBONE of {self.file.name}": sha256(self.file)}

    def shape_of(self, size: tuple[int, int] | None) -> tuple[int, int, int]:
        """`latent_shape` of a size that a user asked for; None: the model's own.

        Raises:
            UserError: where a side is no multiple of `multiple`.
        """
        if size is not None and (size[0] % self.multiple or size[1] % self.multiple):
            raise UserError(
                f"images of {size[0]}x{size[1]} pixels: this model's sides are multiples of "
                f"{self.multiple}"
            )
        return self.latent_shape(size or self.size)
