"""Shards built batch by batch and resumable: an interruption costs one batch."""

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file
from tqdm import tqdm

from attnseg.io.batches import Batches
from attnseg.io.files import locked, parameters_hash
from attnseg.io.shards import is_complete, manifest_path, problem_with, write_shard

ShardPart = tuple[dict[str, torch.Tensor], list[dict]]  # tensors by name, manifest items


def make_shard(
    output: Path,
    samples: Sequence,
    work: Callable[[Sequence], ShardPart],
    parameters: dict,
    batch_size: int,
    still_valid: Callable[[list[dict]], bool] = lambda items: True,
    what: str = "image",
    **more: object,
) -> list[dict]:
    """The items of the shard of `samples`, built by `build_shard` unless it is complete; tells what is
    done and which samples were skipped. `what` names one."""
    if is_complete(output, parameters):
        items = json.loads(manifest_path(output).read_text())["items"]
        if still_valid(items):
            for parts in output.parent.glob(f".{output.stem}-*"):  # of a run killed since
                shutil.rmtree(parts, ignore_errors=True)
            print(f"{output} is complete")
            return items
    started = time.monotonic()
    with tqdm(
        total=len(samples), desc=f"{what}s", unit=what, mininterval=2, disable=not sys.stderr.isatty()
    ) as bar:  # fmt: skip
        items, fresh = build_shard(
            output, samples, work, parameters, batch_size, still_valid, bar.update, **more
        )
    seconds = time.monotonic() - started
    skipped = [item for item in items if item["skipped"]]
    for item in skipped:
        print(f"skipped {item['id']}: {item['skipped'][0]}")
    print(
        f"{len(items) - len(skipped)} {what}s, {len(skipped)} skipped, {fresh} of them now in "
        f"{seconds:.1f} s ({fresh / seconds:.2f} a second) -> {output}"
    )
    return items


def build_shard(
    output: Path,
    samples: Sequence,
    work: Callable[[Sequence], ShardPart],
    parameters: dict,
    batch_size: int,
    still_valid: Callable[[list[dict]], bool] = lambda items: True,
    progress: Callable[[int], object] = lambda count: None,
    **more: object,
) -> tuple[list[dict], int]:
    """Write the shard of `samples`; return its items and how many of them are new.

    Finished batches are kept in a hidden folder beside `output`, named after the parameters, until
    the shard is complete. Of several processes that make it one does, and the others wait.

    Args:
        work: processes a batch of samples.
        still_valid: given a kept batch's items, False if it must be made again.
        progress: called with the size of each batch.
        more: further entries of the manifest.
    """
    folder = output.with_name(f".{output.stem}-{parameters_hash(parameters)}")
    for other in output.parent.glob(f".{output.stem}-*"):
        if other.is_dir() and other != folder:
            shutil.rmtree(other)  # of other parameters: its images are about to be overwritten
    tensors: dict[str, torch.Tensor] = {}
    items: list[dict] = []
    fresh = 0

    def finished(part: Sequence) -> ShardPart:
        nonlocal fresh
        kept = folder / f"{len(items):08d}-{len(part)}.safetensors"
        batch = _kept(kept)
        if batch is None or not still_valid(batch[1]):
            batch = work(part)
            fresh += len(part)
            write_shard(kept, *batch, {})
        return batch

    with locked(folder):
        if problem_with(output, parameters) is None:  # another process has made it meanwhile
            made = json.loads(manifest_path(output).read_text())["items"]
            if still_valid(made):
                shutil.rmtree(folder, ignore_errors=True)
                return made, 0
        for part, batch in Batches(batch_size, "image").over(samples, finished):
            tensors |= batch[0]
            items += batch[1]
            progress(len(part))
        write_shard(output, tensors, items, parameters, **more)
        shutil.rmtree(folder, ignore_errors=True)
    return items, fresh


def _kept(path: Path) -> ShardPart | None:
    """A batch that an earlier run finished; None if absent or damaged."""
    if not is_complete(path):
        return None
    return load_file(path), json.loads(manifest_path(path).read_text())["items"]
