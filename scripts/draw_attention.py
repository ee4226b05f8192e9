#!/usr/bin/env python3
"""Draw ways to use attention, side by side (Text2Mask, Figure 2).

One row per class of some photos with several classes: the photo, the spectral clustering of its
self-attention, Cross, the clusters' mean Cross (CBP), and SelfCross, with one noise.
"""

import argparse
import sys
from pathlib import Path

from attnseg import datasets
from attnseg.backbones import load_backbone
from attnseg.errors import UserError, run
from attnseg.io.gpu import claim_device
from attnseg.results.chosen import with_several_classes
from attnseg.results.pictures import attention_figure
from attnseg.settings import ExtractionJob, Figure2
from attnseg.settings.cli import add_settings, given_settings
from attnseg.text2mask.extract import Options, Sample
from attnseg.text2mask.stages import stages_of


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, ExtractionJob)
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="name of the split's list")
    parser.add_argument("--labels", help="source of the image labels (default: the data set's)")
    parser.add_argument("--count", type=int, default=Figure2().count, help="photos")
    parser.add_argument("--model", required=True, help="folder or hub id of a Stable Diffusion")
    parser.add_argument("--revision", help="of a hub id")
    parser.add_argument(
        "--model-file", help="Python file that exports the model's family, BACKBONE"
    )
    parser.add_argument(
        "--vocabulary", type=datasets.load, help="another data set, for its words in queries"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--output", type=Path, required=True, help="the picture, PNG or SVG")
    args = parser.parse_args(argv)
    dataset = args.dataset
    options = Options(
        **given_settings(args, ExtractionJob).but(cbp=True).dump(),
        vocabulary=args.vocabulary or dataset,
    )
    labelled = [
        {"id": i, "classes": dataset.labels(args.root, i, args.labels, args.split)}
        for i in dataset.read_split(args.root, args.split)
    ]
    items = with_several_classes([(item, {}) for item in labelled if item["classes"]], args.count)
    if not items:
        raise UserError(f"{args.root}: no photo of split {args.split} has a class")
    device = claim_device(args.device)
    backbone = load_backbone(args.model, args.revision, device, file=args.model_file)
    backbone.select(options.cross_blocks, options.self_block)
    rows = []
    for item, _ in items:
        photo = dataset.read_photo(args.root, item["id"], args.split)
        rows.append(stages_of(backbone, Sample(item["id"], photo, item["classes"]), options))
    attention_figure(rows, args.output)
    print(f"{len(rows)} photos in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
