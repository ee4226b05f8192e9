#!/usr/bin/env python3
"""Turn stored attention into pseudo masks: upsample, dense CRF, arg max.

Writes one palette PNG per photo, and finally manifest.json. --train-output writes a copy in which
pixels below `confidence` are 255, which the segmentor's training ignores. An interrupted run is resumed
with the missing photos.
"""

import argparse
import functools
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from attnseg import datasets
from attnseg.core.geometry import Fit
from attnseg.datasets.images import read_image, read_mask
from attnseg.errors import UserError, run
from attnseg.io.files import sha256, start_folder, write_json
from attnseg.io.shards import listed_shards, read_shards
from attnseg.settings import RefinementJob
from attnseg.settings.cli import add_settings, given_settings
from attnseg.text2mask.refine import refine, source_maps


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, RefinementJob)
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", help="needed if photos are in one folder per split")
    parser.add_argument("--attention", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--output", type=Path, required=True, help="folder of the masks")
    parser.add_argument("--train-output", type=Path, help="folder of the copy that trains")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    options = given_settings(args, RefinementJob)
    made_with = {
        "options": options.identity(),
        "attention": [sha256(path) for path in listed_shards(args.attention)],
        **args.dataset.identity(),
    }
    folders = [args.output, *([args.train_output] if args.train_output else [])]
    for folder in folders:
        start_folder(folder, made_with, ["**/*.png"])
    where = (args.root, args.split, args.output, args.train_output)
    work = functools.partial(refine_one, args.dataset, *where, options)
    items = []
    with multiprocessing.get_context("fork").Pool(
        args.processes, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        jobs = ((item, numpy_maps(kinds)) for item, kinds in read_shards(args.attention))
        bar = tqdm(desc="masks", unit="photo", mininterval=2, disable=not sys.stderr.isatty())
        for item in pool.imap(work, jobs, chunksize=8):
            if "error" in item:
                raise UserError(item["error"])
            items.append(item)
            bar.update()
        bar.close()
    for folder in folders:
        write_json(folder / "manifest.json", {"parameters": made_with, "items": items})
    ignored = np.mean([item["ignored"] for item in items]) if items else 0
    print(f"{len(items)} masks in {args.output}; {100 * ignored:.1f} % of pixels are not confident")
    return 0


def numpy_maps(kinds: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {kind: maps.numpy() for kind, maps in kinds.items()}


def refine_one(
    dataset: datasets.Dataset,
    root: Path,
    split: str | None,
    output: Path,
    train_output: Path | None,
    options: RefinementJob,
    job: tuple,
) -> dict:
    """Write one photo's masks; return its manifest entry, or {"error": ...}."""
    item, kinds = job
    try:
        return masks_of(dataset, root, split, output, train_output, options, item, kinds)
    except UserError as error:
        return {"error": str(error)}


def masks_of(dataset, root, split, output, train_output, options, item, kinds) -> dict:
    path = output / f"{item['id']}.png"
    train_path = train_output / f"{item['id']}.png" if train_output else None
    entry = {"id": item["id"], "ignored": 0.0}
    size = tuple(item["image_size"])
    if not item["classes"]:
        for target in filter(None, (path, train_path)):
            dataset.write_mask(target, np.full(size, dataset.unclassed, np.uint8))
        return entry
    if path.exists() and (train_path is None or train_path.exists()):
        if train_path:
            entry["ignored"] = float((read_mask(train_path) == dataset.ignored).mean())
        return entry
    photo = dataset.image_path(root, item["id"], split)
    image = read_image(photo)
    if image.shape[:2] != size:
        raise UserError(
            f"{photo}: the photo is {image.shape[1]}x{image.shape[0]} "
            f"and its attention was made from {size[1]}x{size[0]}: run extract_attention again"
        )
    tensors = {kind: torch.from_numpy(maps) for kind, maps in kinds.items()}
    try:
        maps = source_maps(tensors, options.source)
    except KeyError as missing:
        raise UserError(
            f"{item['id']}: the shards hold no {missing} maps: set `cbp: true` in this variant"
        ) from None
    fit = Fit(tuple(item["content"]), tuple(item["padded"]))
    labels, confidence = refine(image, maps, fit, options, dataset.background)
    numbers = [0] * dataset.background + [dataset.number(name) for name in item["classes"]]
    labels = np.array(numbers, np.uint8)[labels]
    dataset.write_mask(path, labels)
    if train_path:
        training_mask = np.where(confidence < options.confidence, dataset.ignored, labels)
        dataset.write_mask(train_path, training_mask)
        entry["ignored"] = float((confidence < options.confidence).mean())
    return entry


if __name__ == "__main__":
    sys.exit(run(main))
