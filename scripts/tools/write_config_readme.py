#!/usr/bin/env python3
"""Write config/README.md from the schema: every key, what it means, its default.

Run it after every change of the schema. It takes no arguments.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = REPOSITORY / "workflow" / "schemas" / "config.schema.yaml"
README = REPOSITORY / "config" / "README.md"

HEAD = """\
# Configuration

Written by `scripts/tools/write_config_readme.py` from `workflow/schemas/config.schema.yaml`.

`config/config.yaml` is the paper scale and is always read. `--configfile FILE` overrides single keys
of it; `config/mini.yaml` is such a file:

    snakemake --cores all --configfile config/mini.yaml

So is `--config`, for one run: `--config device=cpu`, nested as `--config 'datasets={voc: {root: /data/VOC2012}}'`.
An unknown key is refused, with the nearest valid one. Targets stand before `--configfile`, which takes all that
follows it.

## How to

**Use a data set or a model that is already on disk.** Set `datasets.voc.root` to the folder that holds
`JPEGImages`; set `model.path` to the folder that holds `model_index.json`, and `model.revision: null`.
Roots move one by one, not with `paths.resources`.

**Add an ablation.** A variant overrides keys of the extraction, a refinement is a way from maps to
masks; both are configuration, no rule is written for them. With this file as `late.yaml`

    variants:
      late: {timestep: 300, noises: 1}

the quality of its masks is
`snakemake work/evaluation/masks/voc/train/late/crf/metrics.json --cores all --configfile late.yaml`.

**Train on other masks.** A segmentor that `extends` another takes from it what it does not say itself:

    segmentors:
      deeplabv2_voc_late:
        extends: deeplabv2_voc
        train: {masks: late/crf}

**Train on generated images.** A `synthesis` is a set of images, a labelling a way from their attention
to masks; a segmentor takes the first of them:

    labellings:
      beta_half: {beta: 0.5}
    segmentors:
      attn2mask_voc_2000_beta_half:
        extends: attn2mask_voc_2000
        train: {masks: beta_half}

## Keys

"""


def lines(schema: dict, root: dict, name: str = "") -> Iterator[tuple[str, ...]]:
    """(key, description, the papers' value, default) of everything below a mapping of the schema."""
    for key, value in schema.get("properties", {}).items():
        yield from entry(value, root, f"{name}.{key}" if name else key)
    others = schema.get("additionalProperties")
    if isinstance(others, dict):
        yield from entry(others, root, f"{name}.<name>")


def entry(value: dict, root: dict, name: str) -> Iterator[tuple[str, ...]]:
    described = value
    if "$ref" in value:
        described = root["$defs"][value["$ref"].removeprefix("#/$defs/")] | value
    default = described.get("default")
    nested = "properties" in described or "additionalProperties" in described
    shown = "" if "default" not in described else json.dumps(default)
    choices = f" One of {', '.join(map(str, described['enum']))}." if "enum" in described else ""
    meaning, papers = described["description"].strip() + choices, described.get("x-papers", "")
    yield name, meaning, papers, "" if nested and not default else shown
    yield from lines(described, root, name)
    yield from lines(described.get("items", {}), root, f"{name}[]")


def text() -> str:
    """The content of config/README.md."""
    schema = yaml.safe_load(SCHEMA.read_text())
    table = ["| key | meaning | in the papers | default |", "|---|---|---|---|"]
    for key, meaning, papers, default in lines(schema, schema):
        cells = (f"`{key}`", meaning, papers, f"`{default}`" if default else "")
        table.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return HEAD + "\n".join(table) + "\n"


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    README.write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
