#!/usr/bin/env python3
"""Extract the attention of one shard of photos: low-resolution maps of the classes present.

The defaults are the paper's. A complete shard made with the same parameters is left as it is.
"""

import argparse
import sys
import time
from pathlib import Path

from tqdm import tqdm

from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone
from attnseg.backbones.model_files import weight_hashes
from attnseg.datasets.layouts import LABELS, LAYOUTS
from attnseg.errors import UserError, run
from attnseg.gpu import claim_device
from attnseg.prompts import VOCABULARIES
from attnseg.shards import members, problem_with, write_shard
from attnseg.text2mask.extract import Options, Sample, extract

BOX_THRESHOLDS = {"voc": 0.2, "coco": 0.5}  # of the official code


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", choices=LAYOUTS, default="voc")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="name of the split's list")
    parser.add_argument("--images", type=int, help="how many the list must have")
    parser.add_argument(
        "--labels", choices=("xml", "instances", "mask", "csv"), help="source of the image labels"
    )
    parser.add_argument("--shard", type=int, default=0, help="number of the shard")
    parser.add_argument("--shard-size", type=int, default=500)
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument("--output", type=Path, required=True, help="shard-NNNNN.safetensors")
    parser.add_argument("--cross-blocks", type=int, nargs="+", default=list(Options.cross_blocks))
    parser.add_argument("--self-block", type=int, default=Options.self_block)
    parser.add_argument("--timestep", type=int, default=Options.timestep, help="0 to 999")
    parser.add_argument("--iterations", type=int, default=Options.iterations)
    parser.add_argument("--noises", type=int, default=10, help="maps averaged a photo")
    parser.add_argument("--resize", choices=("official", "native", "none"), default=Options.resize)
    parser.add_argument("--profile", choices=("paper", "official"), default=Options.profile)
    for name, text in (
        ("composed", "one query for all classes of a photo"),
        ("synonyms", "ask for CLIP-ES's synonyms"),
        ("background-words", "append background words"),
        ("cbp", "also store the scores of CBP clustering"),
    ):
        default = name != "cbp"
        parser.add_argument(
            f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=text
        )
    parser.add_argument(
        "--vocabulary", choices=VOCABULARIES, help="whose synonyms (default: the data set's)"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="U-Net passes at a time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    args = parser.parse_args(argv)
    if not 0 <= args.timestep < 1000:
        raise UserError(f"--timestep {args.timestep}: it must be between 0 and 999")
    if args.noises < 1 or args.batch_size < 1:
        raise UserError("--noises and --batch-size must be at least 1")
    dataset = LAYOUTS[args.dataset]
    official = args.profile == "official"
    options = Options(
        cross_blocks=tuple(args.cross_blocks),
        self_block=args.self_block,
        timestep=args.timestep,
        iterations=args.iterations,
        noises=args.noises,
        resize=args.resize,
        composed=args.composed,
        synonyms=args.synonyms,
        background_words=args.background_words,
        profile=args.profile,
        vocabulary=args.vocabulary or ("coco" if args.dataset == "coco" else "voc"),
        box_threshold=BOX_THRESHOLDS[args.dataset] if official else None,
        cbp=args.cbp,
        seed=args.seed,
    )
    ids = dataset.read_split(args.root, args.split)
    if args.images is not None and len(ids) != args.images:
        raise UserError(
            f"{args.root}: split {args.split} lists {len(ids)} images, the configuration says "
            f"{args.images}: correct datasets.{args.dataset}.splits.{args.split}.images"
        )
    ids = members(ids, args.shard, args.shard_size)
    source = args.labels or ("mask" if official else LABELS[args.dataset])
    device = claim_device(args.device)
    extract_shard(args, options, ids, source, load_backbone(args.model, args.revision, device))
    return 0


def extract_shard(args, options: Options, ids: list[str], source: str, backbone: Backbone) -> None:
    """Read the photos, extract, and write the shard, unless it is there already."""
    dataset = LAYOUTS[args.dataset]
    backbone.select(options.cross_blocks, options.self_block)
    parameters = {
        **options.parameters(),
        "model": weight_hashes(backbone.folder),
        "labels": source,
        "dataset": args.dataset,
        "split": args.split,
        "ids": ids,
    }
    if problem_with(args.output, parameters) is None:
        print(f"{args.output} is complete")
        return
    samples = [
        Sample(
            image_id,
            dataset.read_image(dataset.image_path(args.root, image_id)),
            dataset.labels(args.root, image_id, source),
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
    tensors, items = extract(backbone, samples, options, args.batch_size, timed)
    write_shard(args.output, tensors, items, parameters, timing=timing)
    seconds = time.time() - started
    skipped = sum(bool(item["skipped"]) for item in items)
    print(
        f"{len(items)} photos in {seconds:.1f} s ({len(items) / seconds:.1f} a second), "
        f"{skipped} with a constant map -> {args.output}"
    )


if __name__ == "__main__":
    sys.exit(run(main))
