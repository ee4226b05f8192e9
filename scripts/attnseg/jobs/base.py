"""Flags and shards, as all concerns write them."""

import json
import math
import shlex
from collections.abc import Mapping

Flags = dict[str, object]  # flags of a program by name


def flags(**values: object) -> str:
    """Command line flags: key=value becomes --key value, True a bare flag, None and False nothing."""
    words: list[str] = []
    for key, value in values.items():
        if value is None or value is False:
            continue
        words.append(f"--{key.replace('_', '-')}")
        if isinstance(value, (list, tuple)):
            words += map(str, value)
        elif isinstance(value, dict):
            words.append(json.dumps(value, sort_keys=True, separators=(",", ":")))
        elif value is not True:
            words.append(str(value))
    return shlex.join(words)


def shard_files(folder: str, images: int, size: int) -> list[str]:
    """The shards of so many images, `size` in each."""
    numbers = range(math.ceil(images / size))
    return [f"{folder}/shard-{number:05d}.safetensors" for number in numbers]


def device(config: Mapping) -> str:
    """The device of programs; jobs with a GPU must not fall back on the CPU silently."""
    if config["device"] == "auto" and config["resources"]["gpu_per_job"] > 0:
        return "cuda"
    return config["device"]
