#!/usr/bin/env python3
"""Extract the attention of one shard of photos: low-resolution maps of the classes present.

The defaults are the paper's. A complete shard made with the same parameters is kept.
"""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from attnseg import datasets
from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.model_files import weight_hashes
from attnseg.datasets.images import read_image
from attnseg.errors import UserError, run
from attnseg.io.gpu import claim_device
from attnseg.io.shards import members, problem_with, write_shard
from attnseg.settings import PROFILES, ExtractionJob
from attnseg.settings.cli import add_settings, given_settings
from attnseg.text2mask.extract import Options, Sample, extract


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, ExtractionJob)
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="name of the split's list")
    parser.add_argument("--images", type=int, help="how many the list must have")
    parser.add_argument("--labels", help="source of the image labels (default: the data set's)")
    parser.add_argument("--shard", type=int, default=0, help="number of the shard")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument("--output", type=Path, required=True, help="shard-NNNNN.safetensors")
    parser.add_argument(
        "--vocabulary", type=datasets.load, help="another data set, for its words in queries"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    settings = given_settings(args, ExtractionJob)
    dataset, profile = args.dataset, PROFILES[settings.profile]
    options = Options(
        **settings.dump(),
        vocabulary=args.vocabulary or dataset,
        box_threshold=dataset.official_box_threshold if profile.box_mask else None,
    )
    ids = dataset.read_split(args.root, args.split)
    if args.images is not None and len(ids) != args.images:
        raise UserError(
            f"{args.root}: split {args.split} lists {len(ids)} images, the configuration says "
            f"{args.images}: correct datasets.{dataset.name}.splits.{args.split}.images"
        )
    ids = members(ids, args.shard, options.shard_size)
    source = args.labels or ("mask" if profile.labels_from_masks else dataset.label_sources[0])
    device = claim_device(args.device)
    extract_shard(args, options, ids, source, load_backbone(args.model, args.revision, device))
    return 0


def extract_shard(args, options: Options, ids: list[str], source: str, backbone: Backbone) -> None:
    """Read the photos, extract, and write the shard, unless it is there already."""
    dataset = args.dataset
    backbone.select(options.cross_blocks, options.self_block)
    parameters = {
        **options.identity(),
        "model": weight_hashes(backbone.folder),
        "labels": source,
        "dataset": dataset.name,
        "split": args.split,
        "ids": ids,
    }
    if problem_with(args.output, parameters) is None:
        print(f"{args.output} is complete")
        return
    samples = [
        Sample(
            image_id,
            read_image(dataset.image_path(args.root, image_id, args.split)),
            dataset.labels(args.root, image_id, source, args.split),
        )
        for image_id in ids
    ]
    timing: dict[str, list] = {"labels": [], "seconds": []}

    def timed(batches):
        bar = tqdm(
            batches, desc="attention", unit="batch", mininterval=2, disable=not sys.stderr.isatty()
        )
        for batch in bar:
            begun = time.perf_counter()
            yield batch
            timing["labels"].append(sum(len(samples[i].classes) for i in batch))
            timing["seconds"].append(round(time.perf_counter() - begun, 4))

    started = time.time()
    tensors, items = extract(backbone, samples, options, options.batch_size, timed)
    precision = str(backbone.dtype).removeprefix("torch.")
    write_shard(args.output, tensors, items, parameters, timing=timing, precision=precision)
    seconds = time.time() - started
    skipped = sum(bool(item["skipped"]) for item in items)
    print(
        f"{len(items)} photos in {seconds:.1f} s ({len(items) / seconds:.1f} per second), "
        f"{skipped} with a constant map -> {args.output}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
