#!/usr/bin/env python3
"""Write config/README.md and the JSON schema for editors from attnseg.settings.

Run it after every change of the settings. It takes no arguments.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from attnseg.settings import Config, Settings
from attnseg.settings.base import differing, notes, options_of

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEMA = REPOSITORY / "workflow" / "schemas" / "config.schema.json"
README = REPOSITORY / "config" / "README.md"

SPEED = " (Reruns nothing.)"

HEAD = """\
# Configuration

Written by `scripts/tools/write_config_readme.py` from `scripts/attnseg/settings`.

`config/config.yaml` is the paper scale and is always read. `--configfile FILE` overrides single keys
of it; `config/mini.yaml` is such a file:

    snakemake --cores all --configfile config/mini.yaml

So is `--config`, for one run: `--config device=cpu`, nested as `--config 'datasets={voc: {root: /data/VOC2012}}'`.
An unknown key is refused, with the nearest valid one.
`attnseg config FILE` prints every key as it then stands. Targets stand before `--configfile`, which takes all that
follows it.

## How to

**Use a data set or a model that is already on disk.** Set `datasets.voc.root` to the folder that contains
`JPEGImages`; set `model.path` to the folder that contains `model_index.json`, and `model.revision: null`.
Each root is set separately; they do not follow `paths.resources`.

**Add an ablation.** A variant overrides keys of the extraction, a refinement turns maps into masks. Both
need only configuration, no rule. With this file as `late.yaml`

    variants:
      late: {timestep: 300, noises: 1}

the metrics of its masks are
`snakemake work/evaluation/masks/voc/train/late/crf/metrics.json --cores all --configfile late.yaml`.

**Train on other masks.** A segmentor that `extends` another inherits the keys that it does not set:

    segmentors:
      deeplabv2_voc_late:
        extends: deeplabv2_voc
        train: {masks: late/crf}

**Train on generated images.** A `synthesis` is a set of images, a labelling turns their attention into
masks; a segmentor is trained on the first images:

    labellings:
      beta_half: {beta: 0.5}
    segmentors:
      attn2mask_voc_2000_beta_half:
        extends: attn2mask_voc_2000
        train: {masks: beta_half}

## Keys

"""


def lines(cls: type[Settings], name: str = "") -> Iterator[tuple[str, ...]]:
    """Yield (key, meaning, the papers' value, default) of all keys of a class."""
    for key, field in cls.model_fields.items():
        yield from entry(field, f"{name}.{key}" if name else key)


def entry(field: FieldInfo, name: str) -> Iterator[tuple[str, ...]]:
    default = None if field.is_required() else field.get_default(call_default_factory=True)
    nested = [o for o in options_of(field.annotation) if is_settings(o)]
    meaning = (field.description or "").strip() + choices(field.annotation)
    if notes(field).get("x-speed"):
        meaning += SPEED
    shown = json.dumps(default, default=lambda value: differing(value, speed=False))
    hidden = field.is_required() or nested or notes(field).get("x-override")
    shown = "" if hidden or default == {} else shown
    yield name, meaning, notes(field).get("x-papers", ""), shown
    for option in options_of(field.annotation):
        yield from inner(option, name)


def inner(option: object, name: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys below a value that is a settings class, a mapping of names or a list."""
    arguments = get_args(option)
    if isinstance(option, type) and issubclass(option, Settings):
        yield from lines(option, name)
    elif get_origin(option) in (dict, list) and arguments:
        below = f"{name}.<name>" if get_origin(option) is dict else f"{name}[]"
        for value in options_of(arguments[-1]):
            if get_origin(option) is dict and (is_settings(value) or get_origin(value) is list):
                about = value.__doc__ if is_settings(value) else "The items of this name."
                yield below, about + choices(arguments[0]).replace("One of", "Named"), "", ""
            yield from inner(value, below)


def is_settings(option: object) -> bool:
    return isinstance(option, type) and issubclass(option, Settings)


def choices(annotation: object) -> str:
    """ " One of a, b." if a key has few values."""
    found = [o for o in options_of(annotation) if get_origin(o) is Literal]
    values = [str(value) for option in found for value in get_args(option)]
    return f" One of {', '.join(values)}." if len(values) > 1 else ""


def text() -> str:
    """The content of config/README.md."""
    table = ["| key | meaning | in the papers | default |", "|---|---|---|---|"]
    for key, meaning, papers, default in lines(Config):
        cells = (f"`{key}`", meaning, papers, f"`{default}`" if default else "")
        table.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return HEAD + "\n".join(table) + "\n"


def schema() -> str:
    """The content of workflow/schemas/config.schema.json; no key is required, since files override."""

    def optional(part: Any) -> Any:
        if isinstance(part, list):
            return [optional(item) for item in part]
        if not isinstance(part, dict):
            return part
        kept = {k: optional(v) for k, v in part.items()}
        return {k: v for k, v in kept.items() if k != "required" and (k, type(v)) != ("title", str)}

    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "attnseg"}
    return json.dumps(about | optional(Config.model_json_schema()), indent=1) + "\n"


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args(argv)
    README.write_text(text())
    SCHEMA.write_text(schema())
    return 0


if __name__ == "__main__":
    sys.exit(main())
