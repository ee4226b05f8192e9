"""Shared by the commands: parsers, and the clone of the repository that some of them need."""

import argparse
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from attnseg.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]


class Help(argparse.RawDescriptionHelpFormatter):
    """Prints the default of each option that has one, unless its help mentions it."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text, default = action.help, action.default
        told = not text or "default" in text or not action.option_strings
        if told or default is None or default is False or default in ([], argparse.SUPPRESS):
            return text
        return f"{text} (default {default})"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


def parser_of(command: ModuleType) -> Parser:
    """The parser of a command that is run by a program of its own."""
    parser = Parser(description=command.__doc__)
    command.add_arguments(parser)
    parser.formatter_class = Help
    return parser


def words_of(text: str) -> list[str]:
    """What commas separate."""
    return [word.strip() for word in text.split(",") if word.strip()]


def add_photos(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which photos, and how they are read."""
    parser.add_argument(
        "photos",
        nargs="+",
        metavar="PHOTO",
        help="a photo (JPEG, PNG, ...), a folder of photos, or a pattern such as 'holiday/*.jpg'",
    )
    parser.add_argument(
        "--exif",
        choices=("turn", "ignore"),
        default="turn",
        help="turn photos upright by their EXIF orientation, or read them as they are stored",
    )


def count(text: str) -> int:
    """A whole number from 1."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be 1 or more")
    return number


def natural(text: str) -> int:
    """A whole number from 0."""
    return 0 if text.strip() == "0" else count(text)


def clone(user: str) -> Path:
    """The clone of the repository that the current folder is, else the one this file is in.

    Raises:
        UserError: where neither is one; `user` needs it.
    """
    for folder in (Path.cwd(), REPOSITORY):
        parts = ("Snakefile", "config/config.yaml", "config/datasets.yaml", "scripts/attnseg")
        if all((folder / part).exists() for part in parts):
            return folder
    raise UserError(
        f"{user} reads the Snakefile and config/ of the repository, which are not here: "
        "run it in a clone"
    )
