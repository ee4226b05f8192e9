"""Data sets, one file an on-disk layout."""

import re
from pathlib import Path


def dataset_names() -> list[str]:
    """The data sets: the modules here that read a split. None is imported: the Snakemake rules ask."""
    return [
        path.stem
        for path in sorted(Path(__file__).parent.glob("*.py"))
        if re.search(r"^def read_(split|mug19)\(", path.read_text(), re.MULTILINE)
    ]
