"""Print a configuration with every key as it stands once its files are read: JSON.

attnseg config                       the paper scale: config/config.yaml
attnseg config config/mini.yaml      with this file over it
"""

import argparse
import json
from pathlib import Path

from attnseg.app.options import clone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        metavar="FILE",
        type=Path,
        help="configuration files over config/config.yaml, later ones over earlier ones",
    )


def main(args: argparse.Namespace) -> int:
    print(json.dumps(resolved(clone("attnseg config"), args.files), indent=1))
    return 0


def resolved(repository: Path, files: list[Path]) -> dict:
    """The configuration of a clone with `files` over it, as `snakemake --configfile` reads them."""
    from attnseg.config.reading import read_config

    base = repository / "config" / "config.yaml"
    return read_config(base, *(file for file in files if file.resolve() != base.resolve()))
