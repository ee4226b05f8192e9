#!/usr/bin/env python3
"""Turn the stored attention of generated images into masks and reliability maps.

Writes one palette PNG per image, reliability/<id>.png (255 if reliable, else 0), and finally
manifest.json; skipped samples have neither. The defaults are attn2mask's: min-max maps, beta 0.2, the
dense CRF with SimpleCRF's defaults, r 0.5. An interrupted run is resumed with the missing images.

Masks have the data set's class numbers. If it has no background class, background pixels are 255,
ignored.
"""

import argparse
import functools
import itertools
import json
import multiprocessing
import os
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from attnseg import datasets
from attnseg.attn2mask.labelling import dataset_labels, synthetic_mask
from attnseg.datasets.images import read_image
from attnseg.errors import UserError, run
from attnseg.io.files import start_folder, write_atomically, write_json
from attnseg.io.shards import read_shards
from attnseg.settings import LabellingJob
from attnseg.settings.cli import add_settings, given_settings


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, LabellingJob)
    parser.add_argument(
        "--dataset", type=datasets.load, required=True, help=f"whose class numbers: {datasets.HELP}"
    )
    parser.add_argument("--attention", type=Path, required=True, help="folder of the shards")
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--output", type=Path, required=True, help="folder of the masks")
    parser.add_argument("--limit", type=int, help="use this many images, from the first on")
    parser.add_argument(
        "--keep-skipped",
        action="store_true",
        help="a mask of background for skipped photos (null-text inversion of an evaluated split)",
    )
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    args = parser.parse_args(argv)
    options = given_settings(args, LabellingJob)
    attention, images = [], 0
    for path in sorted(args.attention.glob("shard-*.json")):
        if args.limit is not None and images >= args.limit:
            break  # later shards may still be incomplete
        attention.append(json.loads(path.read_text()))
        images += len(attention[-1]["items"])
    made_with = {
        "options": options.identity(),
        "dataset": args.dataset.name,
        **args.dataset.identity(),
        "keep_skipped": args.keep_skipped,
        "model": attention[0]["parameters"].get("model") if attention else None,
        "attention": [manifest["sha256"] for manifest in attention],
    }
    start_folder(args.output, made_with, ("*.png", "reliability/*.png"))
    work = functools.partial(
        refine_one, args.dataset, args.images, args.output, options, args.keep_skipped
    )
    entries = read_shards(args.attention)
    jobs = ((item, kinds["cross"].numpy() if "cross" in kinds else None) for item, kinds in entries)
    if args.limit is not None:
        jobs = itertools.islice(jobs, args.limit)
    items = []
    with (
        multiprocessing.get_context("fork").Pool(
            args.processes, initializer=torch.set_num_threads, initargs=(1,)
        ) as pool,
        tqdm(desc="masks", unit="image", mininterval=2, disable=not sys.stderr.isatty()) as bar,
    ):
        for item in pool.imap(work, jobs, chunksize=8):
            if "error" in item:
                raise UserError(item["error"])
            items.append(item)
            bar.update()
    precision = attention[0].get("precision") if attention else None
    write_json(
        args.output / "manifest.json",
        {"parameters": made_with, "precision": precision, "items": items},
    )
    made = [item for item in items if not item["skipped"]]
    reliable = np.mean([item["reliable"] for item in made]) if made else 0
    print(
        f"{len(made)} masks, {len(items) - len(made)} skipped, {100 * reliable:.1f} % of pixels "
        f"reliable -> {args.output}"
    )
    return 0


def refine_one(
    dataset: datasets.Dataset,
    images: Path,
    output: Path,
    options: LabellingJob,
    keep_skipped: bool,
    job: tuple,
) -> dict:
    """Write one image's mask and reliability map; return its manifest entry, or {"error": ...}."""
    item, maps = job
    try:
        return masks_of(dataset, images, output, options, keep_skipped, item, maps)
    except UserError as error:
        return {"error": f"{item['id']}: {error}"}


def masks_of(dataset, images, output, options, keep_skipped, item, maps) -> dict:
    entry = {"id": item["id"], "image": item["image"], "classes": item["classes"], "skipped": None}
    mask_path = output / f"{item['id']}.png"
    reliability_path = output / "reliability" / mask_path.name
    numbers = [dataset.number(name) for name in item["classes"]]
    if item["skipped"] or maps is None:
        entry["skipped"] = (item["skipped"] or ["no attention"])[0]
        if keep_skipped:
            size = item["image_size"]
            dataset.write_mask(mask_path, np.full(size, dataset.unclassed, np.uint8))
            save_reliability(reliability_path, np.zeros(size, bool))
        return entry
    if not (mask_path.exists() and reliability_path.exists()):
        image = read_image(images / item["image"])
        labels, reliable = synthetic_mask(image, torch.from_numpy(maps), options)
        dataset.write_mask(mask_path, dataset_labels(labels, numbers, dataset.unclassed))
        save_reliability(reliability_path, reliable)
    with Image.open(reliability_path) as kept:
        return entry | {"reliable": round(float(np.mean(np.asarray(kept) > 0)), 4)}


def save_reliability(path: Path, reliable: np.ndarray) -> None:
    with write_atomically(path) as partial:
        Image.fromarray(np.where(reliable, 255, 0).astype(np.uint8)).save(partial)


if __name__ == "__main__":
    sys.exit(run(main))
