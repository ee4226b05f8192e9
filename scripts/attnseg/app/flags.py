"""Flags that several programs have, each said once."""

import argparse
import re
from pathlib import Path
from typing import Any

from attnseg import datasets
from attnseg.settings.base import PLACE, Settings
from attnseg.settings.cli import add_settings


def block(text: str) -> int | str:
    """The number of a block, or a place of blocks."""
    if not (text.isdecimal() or re.match(PLACE, text)):
        raise argparse.ArgumentTypeError(
            f"{text}: write a number, or a place: 1/4 (of the latent's grid), decoder, '1/4 decoder'"
        )
    return int(text) if text.isdecimal() else text


SHARED: dict[str, dict[str, Any]] = {
    "--attention": {"type": Path, "required": True, "help": "folder of the shards"},
    "--cross-blocks": {
        "type": block,
        "nargs": "+",
        "metavar": "BLOCK",
        "help": "blocks whose cross-attention is averaged: numbers, or places such as 1/4, decoder or "
        "'1/4 decoder' (default: the model's usual)",
    },
    "--dataset": {"type": datasets.load, "default": datasets.DEFAULT, "help": datasets.HELP},
    "--dataset-name": {"help": "its name in the results (default: --dataset), as in mini_voc"},
    "--device": {
        "choices": ("auto", "cpu", "cuda"),
        "default": "auto",
        "help": "auto: a GPU where there is one",
    },
    "--images": {"type": Path, "required": True, "help": "folder of the images"},
    "--labels": {"help": "source of the image labels (default: the data set's)"},
    "--limit": {"type": int, "help": "use this many samples, from the first on"},
    "--lora": {"type": Path, "help": "weights of train_dreambooth_lora"},
    "--model": {"required": True, "help": "folder or hub id of a text-to-image model"},
    "--model-file": {"help": "Python file that exports the model's family, BACKBONE"},
    "--output": {"type": Path, "required": True},
    "--processes": {"type": int, "default": 1, "help": "masks made at a time"},
    "--reading": {
        "choices": ("attention", "output"),
        "default": "attention",
        "help": "how joint attention is read: `attention`, from image to text, or `output`, by comparing its "
        "outputs (ConceptAttention; FLUX.1 and Stable Diffusion 3 only)",
    },
    "--revision": {"help": "commit of a hub id"},
    "--root": {"type": Path, "required": True, "help": "folder of the data set"},
    "--seed": {"type": int, "default": 0, "help": "of everything random (default 0)"},
    "--self-block": {
        "type": block,
        "nargs": "+",
        "metavar": "BLOCK",
        "help": "the block whose self-attention propagates the maps, or several of one grid, whose mean does "
        "(default: the model's usual)",
    },
    "--shard": {"type": int, "default": 0, "help": "number of the shard"},
    "--split": {"required": True, "help": "name of the split's list"},
    "--vocabulary": {"type": datasets.load, "help": "another data set, for its words in queries"},
}


def add(parser: argparse.ArgumentParser, shared: str, **changed: Any) -> None:
    """Add shared flags, "--root --split"; `changed` replaces what is said of them, such as `help`."""
    for flag in shared.split():
        parser.add_argument(flag, **SHARED[flag] | changed)


def program(
    about: str | None,
    shared: str = "",
    *,
    output: str | None = None,
    settings: type[Settings] | None = None,
) -> argparse.ArgumentParser:
    """Make the parser of a program.

    Args:
        about: the program's docstring.
        shared: shared flags, as in "--root --split".
        output: the help of --output, which is added where this is given.
        settings: the class that --settings and --set fill, if there is one.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if settings:
        add_settings(parser, settings)
    add(parser, shared)
    if output:
        add(parser, "--output", help=output)
    return parser
