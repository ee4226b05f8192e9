"""Many items made by several processes, each in files of its own: what is there is kept."""

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path

import torch
from tqdm import tqdm

from attnseg.errors import UserError
from attnseg.io.digests import remove_damaged, write_digests
from attnseg.io.files import sealed, sha256, start_folder, write_json
from attnseg.io.processes import results


def write_items(
    folders: Sequence[Path],
    made_with: dict,
    work: Callable[[object], dict],
    jobs: Iterable,
    *,
    processes: int = 1,
    names: Sequence[str] = ("{id}.png",),
    unit: str = "mask",
    **more: object,
) -> list[dict]:
    """The manifest entries that `work` returns for `jobs`, in order, once it has written their files.

    Files that were made with other parameters than `made_with`, or were damaged since, are removed first;
    `work` keeps those it finds. The digests and manifest.json of each of `folders` come last; `more` is
    added to the manifest.

    Args:
        work: returns the entry of an item once its files are there.
        names: of an item's files in each folder, those of them that `work` writes.

    Raises:
        UserError: as `work` raises it in a process.
    """
    for folder in folders:
        start_folder(folder, made_with, ["**/*.png"])
        remove_damaged(folder)
    items: list[dict] = []
    digests: list[dict[str, str]] = [{} for _ in folders]
    tried = functools.partial(_tried, work, folders, names)
    one_thread = functools.partial(torch.set_num_threads, 1)
    with (
        closing(results(tried, jobs, processes, "fork", begin=one_thread)) as done,
        tqdm(desc="masks", unit=unit, mininterval=2, disable=not sys.stderr.isatty()) as bar,
    ):
        for item, written, error in done:
            if error is not None:
                raise UserError(error)
            items.append(item)
            for known, new in zip(digests, written, strict=True):
                known |= new
            bar.update()
    for folder, known in zip(folders, digests, strict=True):
        write_digests(folder, known)
        manifest = {"parameters": made_with, **more, "items": items}
        write_json(folder / "manifest.json", sealed(manifest))
    return items


def _tried(
    work: Callable[[object], dict], folders: Sequence[Path], names: Sequence[str], job: object
) -> tuple[dict, list[dict[str, str]], str | None]:
    """Return the result of `work` and the digests in each folder, or its error, which the waiting process
    raises."""
    try:
        item = work(job)
    except UserError as error:
        return {}, [], str(error)
    mine = [name.format(id=item["id"]) for name in names]
    written = [{n: sha256(f / n) for n in mine if (f / n).is_file()} for f in folders]
    return item, written, None
