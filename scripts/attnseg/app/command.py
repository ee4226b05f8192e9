"""Segmentation from the attention of text-to-image diffusion models.

    attnseg segment photo.jpg --classes dog,sofa --model FOLDER_OR_ID --output mask.png
    attnseg COMMAND --help

The tables and figures of the papers are made by Snakemake, in a clone of the repository.
"""

import importlib
import os
import sys

from attnseg.app.options import Help, Parser
from attnseg.errors import run

# a module of this package each, imported when its command is given: --help is quick
COMMANDS = {
    "segment": "segment photos by naming what is in them",
    "serve": "a page to look at what words find in photos",
    "init": "start a project of your own photos: masks and a segmentor",
    "export": "masks or a segmentor in the formats of other tools",
    "predict": "masks of photos by a segmentor of your own, as ONNX",
    "train-subject": "learn a thing of your own from photos of it",
    "crate": "how results were made, as an archive that others can check",
    "tables": "print tables, and the ledger of claims",
    "describe": "say what is read of a text-to-image model, and the defaults taken",
    "config": "print a configuration with every key as it stands",
    "doctor": "say what this machine lacks to run the workflow",
}


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = Parser(prog="attnseg", description=__doc__, formatter_class=Help)
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary)
        if argv[:1] == [name]:
            module = importlib.import_module(f"attnseg.app.{name.replace('-', '_')}")
            module.add_arguments(command)
            command.description, command.formatter_class = module.__doc__, Help
            command.set_defaults(command=module.main)
    args = parser.parse_args(argv)
    return args.command(args)


def run_command() -> int:
    """The command of the package; its exit status."""
    try:
        status = run(main)
        sys.stdout.flush()
    except BrokenPipeError:  # `attnseg config | head`: who reads has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status
