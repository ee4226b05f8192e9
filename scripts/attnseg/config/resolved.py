"""A configuration's variants and segmentors with what they inherit, and its folders."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnseg.errors import UserError
from attnseg.settings.base import nearest


def merge(base: Mapping, over: Mapping) -> dict:
    """Override values of `base` by those of `over`, recursively; return the result."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else copy.deepcopy(value)
    return merged


def resolve_variant(config: Mapping, name: str) -> dict:
    """Settings of the extraction in the variant `name`.

    These are the keys of `extraction`, and `seed`, `profile`, `cross_blocks` and `self_block`, which
    a variant may also override; the last two are by default its model's.
    """
    model = model_of(config, name)
    base = {
        **config["extraction"],
        "seed": config["seed"],
        "profile": config["profile"],
        "cross_blocks": model["cross_blocks"],
        "self_block": model["self_block"],
    }
    settings = merge(base, config["variants"][name] or {})
    settings.pop("backbone", None)
    return settings


def model_of(config: Mapping, variant: str) -> dict:
    """The text-to-image model of a variant."""
    variants, name = config["variants"], variant
    if name not in variants:
        raise UserError(
            f"unknown variant {name!r}{nearest(name, variants)}; a variant is an entry of "
            f"`variants` in the configuration ({', '.join(variants)})"
        )
    backbone = (variants[name] or {}).get("backbone")
    return config["model"] if backbone is None else config["backbones"][backbone]


def resolve_segmentor(config: Mapping, name: str) -> dict:
    """Settings of a segmentor, including those inherited through `extends`."""
    seen: list[str] = []
    chain: list[Any] = []
    segmentors = config["segmentors"]
    while name is not None:
        if name in seen:
            raise UserError(f"segmentors {', '.join(seen)} extend each other; remove one `extends`")
        if not isinstance(name, str) or name not in segmentors:
            where = f"segmentors.{seen[-1]}.extends: " if seen else ""
            raise UserError(
                f"{where}no segmentor {name!r}{nearest(str(name), segmentors)}; "
                f"configured are {', '.join(segmentors)}"
            )
        seen.append(name)
        chain.append(segmentors[name] or {})
        name = chain[-1].get("extends")
    resolved: dict = {}
    for settings in reversed(chain):
        resolved = merge(resolved, settings)
    resolved.pop("extends", None)
    return resolved


def resolve_run(config: Mapping, name: str) -> dict:
    """The settings of a segmentor with its seed; `<name>@2` is `<name>` with another one."""
    name, _, run = name.partition("@")
    settings = resolve_segmentor(config, name)
    first = config["seed"] if settings["seed"] is None else settings["seed"]
    return settings | {"seed": first + int(run or 1) - 1}


def real_path(path: str, config: Mapping) -> str:
    """A path with the configured folders in place of Snakemake's <results>, <work> and <resources>."""
    for name, folder in config["paths"].items():
        path = path.replace(f"<{name}>", folder)
    return path


def backbone_weights(settings: Mapping) -> str:
    """The file of the ImageNet weights that a segmentor starts from; "" for random ones."""
    pretrained = settings["pretrained"] or ""
    if pretrained.startswith("https:"):
        return f"<resources>/models/{Path(pretrained).stem}.safetensors"
    return pretrained
