"""Shards: consecutive samples of a split, in a safetensors file with a JSON manifest.

A shard is complete if its manifest exists, unchanged, and has the same parameters and the file's SHA-256.
Otherwise it is made again. A reader that finds one damaged removes it, with the list of the folder's
shards, so that the workflow lacks it and makes it again alone.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from attnseg.errors import UserError, readable
from attnseg.io.files import (
    AGAIN,
    is_broken,
    parameters_hash,
    parsed,
    read_sealed,
    sealed,
    sha256,
    write_atomically,
    write_json,
)


def members(items: list, shard: int, size: int) -> list:
    """Items of a shard: positions [shard * size, (shard + 1) * size) of the list."""
    if size < 1 or shard < 0 or shard * size >= len(items):
        raise UserError(
            f"shard {shard} of size {size}: the list has {len(items)} items; "
            "check the split's `images` count in the configuration"
        )
    return items[shard * size : (shard + 1) * size]


def manifest_path(shard: Path) -> Path:
    return shard.with_suffix(".json")


def write_shard(
    path: Path,
    tensors: dict[str, torch.Tensor],
    items: list[dict],
    parameters: dict,
    **more: object,
) -> None:
    """Write the tensors, then the manifest, which marks them as complete; `more` goes into it.

    Raises:
        UserError: where a value is not finite.
    """
    if strange := next((name for name, each in tensors.items() if not each.isfinite().all()), None):
        raise UserError(f"{path}: not written: {strange} is not finite")
    manifest_path(path).unlink(missing_ok=True)
    with write_atomically(path) as partial:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    manifest = {
        "sha256": sha256(path),
        "parameters_hash": parameters_hash(parameters),
        "parameters": parameters,
        "items": items,
        **more,
    }
    write_json(manifest_path(path), sealed(manifest))


def problem_with(path: Path, parameters: dict | None = None) -> str | None:
    """The reason why a shard is not complete, or None; `parameters`: those it should have."""
    try:
        manifest = parsed(manifest_path(path).read_text())
        if not path.is_file():
            return "the tensors are missing"
        if is_broken(manifest) or not all(
            isinstance(item["id"], str) for item in manifest["items"]
        ):
            return "the manifest is damaged"
        if parameters is not None and manifest["parameters_hash"] != parameters_hash(parameters):
            return "made with other parameters"
        if sha256(path) != manifest["sha256"]:
            return "the tensors are damaged"
    except FileNotFoundError:
        return "the manifest is missing"
    except (ValueError, KeyError, TypeError):
        return "the manifest is damaged"
    return None


def is_complete(path: Path, parameters: dict | None = None) -> bool:
    """True if a shard has no problem; one that is there and was damaged is named."""
    problem = problem_with(path, parameters)
    if problem and problem.endswith("damaged"):
        print(f"{path}: {problem}; made again", file=sys.stderr, flush=True)
    return problem is None


def listed_shards(folder: Path) -> list[Path]:
    """Shards named in the folder's manifest.json (by verify_shards), or all without one."""
    manifest = folder / "manifest.json"
    # of which one may lack a file
    files = [*folder.glob("shard-*.safetensors"), *folder.glob("shard-*.json")]
    paths = sorted({file.with_suffix(".safetensors") for file in files})
    if manifest.exists():
        listed = read_sealed(manifest, ours=bool(paths)).get("shards", ())
        with readable(manifest, "delete it and make it again"):
            paths = [folder / name for name in listed]
    if not paths:
        raise UserError(f"{folder}: no shards: run extract_attention first")
    return paths


def read_manifest(path: Path) -> dict:
    """The manifest of a shard that is complete."""
    problem = problem_with(path)
    if problem:
        raise UserError(f"{path}: {withdrawn(path, problem)}")
    return json.loads(manifest_path(path).read_text())


def withdrawn(path: Path, problem: str) -> str:
    """Remove a shard that has a problem, and the list of its folder's shards, and say so."""
    for file in (path.with_name("manifest.json"), manifest_path(path), path):
        file.unlink(missing_ok=True)
    return f"{problem}; removed, {AGAIN}"


def read_shards(folder: Path) -> Iterator[tuple[dict, dict[str, torch.Tensor]]]:
    """Yield each item's manifest entry and its tensors by kind ("cross", "selfcross"), in order."""
    for path in listed_shards(folder):
        manifest = read_manifest(path)
        by_id: dict[str, dict[str, torch.Tensor]] = {}
        try:
            tensors = load_file(path)
            if not all("/" in name for name in tensors):
                raise ValueError
        except (SafetensorError, ValueError):  # whatever its digest says
            raise UserError(f"{path}: {withdrawn(path, 'the tensors are damaged')}") from None
        for name, tensor in tensors.items():
            image_id, kind = name.rsplit("/", 1)
            if not tensor.isfinite().all():  # of an earlier release, which wrote them
                raise UserError(
                    f"{path}: {withdrawn(path, f'{image_id}: its {kind} is not finite')}"
                )
            by_id.setdefault(image_id, {})[kind] = tensor
        for item in manifest["items"]:
            yield item, by_id.get(item["id"], {})


def read_arrays(folder: Path) -> Iterator[tuple[dict, dict[str, np.ndarray]]]:
    """Yield the items of `read_shards` with numpy arrays, which can be sent to other processes."""
    for item, kinds in read_shards(folder):
        yield item, {kind: maps.numpy() for kind, maps in kinds.items()}
