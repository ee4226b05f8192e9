"""Flags that several programs have, each said once."""

import argparse
from pathlib import Path
from typing import Any

from attnseg import datasets
from attnseg.settings.base import Settings
from attnseg.settings.cli import add_settings

SHARED: dict[str, dict[str, Any]] = {
    "--attention": {"type": Path, "required": True, "help": "folder of the shards"},
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
    "--revision": {"help": "commit of a hub id"},
    "--root": {"type": Path, "required": True, "help": "folder of the data set"},
    "--seed": {"type": int, "default": 0, "help": "of everything random (default 0)"},
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
