"""Many items made by several processes, each in files of its own: what is there is kept."""

import functools
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from attnseg.errors import UserError
from attnseg.io.files import start_folder, write_json


def write_items(
    folders: Sequence[Path],
    made_with: dict,
    work: Callable[[object], dict],
    jobs: Iterable,
    *,
    processes: int = 1,
    patterns: Sequence[str] = (),
    unit: str = "mask",
    **more: object,
) -> list[dict]:
    """The manifest entries that `work` returns for `jobs`, in order, once it has written their files.

    Files of `patterns` that were made with other parameters than `made_with` are removed first; `work`
    keeps those it finds. manifest.json of each of `folders` comes last; `more` is added to it.

    Raises:
        UserError: as `work` raises it in a process.
    """
    for folder in folders:
        start_folder(folder, made_with, patterns)
    items: list[dict] = []
    with (
        multiprocessing.get_context("fork").Pool(
            processes, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
        tqdm(desc="masks", unit=unit, mininterval=2, disable=not sys.stderr.isatty()) as bar,
    ):
        for item, error in pool.imap(functools.partial(_tried, work), jobs, chunksize=8):
            if error is not None:
                raise UserError(error)
            items.append(item)
            bar.update()
    for folder in folders:
        write_json(folder / "manifest.json", {"parameters": made_with, **more, "items": items})
    return items


def _tried(work: Callable[[object], dict], job: object) -> tuple[dict, str | None]:
    """Return the result of `work`, or its error, which the waiting process raises."""
    try:
        return work(job), None
    except UserError as error:
        return {}, str(error)
