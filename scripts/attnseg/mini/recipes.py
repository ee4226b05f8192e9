"""What the training of a miniature is told."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import CLIPTokenizer

from attnseg.backbones.interface import Text
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.backbones.stable_diffusion_3 import StableDiffusion3
from attnseg.backbones.text import Query

Positions = list[list[list[int]]]  # of each sample's classes
Maps = list[torch.Tensor]  # of each sample, [K, h', w']


@dataclass(frozen=True)
class Card:
    """What a model's card says of its training.

    `text`: with names of facts in braces. `columns`: keys of the history and their heads. `protocol`: of
    the readings on mini dev. `guidance`: of the samples, for which the pipeline is asked by `asked` of the
    prompts.
    """

    text: str
    columns: Mapping[str, str]
    protocol: str
    guidance: float
    asked: Callable[[list[str]], dict[str, Any]]


@dataclass(frozen=True)
class Recipe:
    """A miniature and its training.

    backbone, tokenizer: the model and what makes the tokens of its captions.
    trained: the networks whose weights are trained, the one with attention first.
    plain: the processor of its attention in training; `usual` otherwise, as diffusers has it and as is
        recorded.
    loss: of clean latents [B, C, h, w], noise, token ids [B, L] and the generator of timesteps the squared
        error of each sample [B] and what it weighs [B].
    optimizers: of the trained weights by their names; `rate` is the peak of their learning rates.
    batch: scenes a step.
    readings: of noisy latents, their timestep, texts, queries and token positions the name and the maps of
        each reading that is evaluated, at `timestep`.
    folder: what the folder of its checkpoints begins with.
    """

    backbone: StableDiffusion | StableDiffusion3
    tokenizer: CLIPTokenizer
    trained: Sequence[Any]
    plain: Any
    usual: Any
    loss: Callable[
        [torch.Tensor, torch.Tensor, torch.Tensor, torch.Generator],
        tuple[torch.Tensor, torch.Tensor],
    ]
    optimizers: Callable[[Mapping[str, torch.nn.Parameter]], list[torch.optim.Optimizer]]
    rate: float
    batch: int
    readings: Callable[
        [torch.Tensor, int, Text, list[Query], Positions], Iterator[tuple[str, Maps]]
    ]
    timestep: int
    folder: str
    card: Card
