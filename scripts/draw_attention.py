#!/usr/bin/env python3
"""Draw ways to use attention, side by side (Text2Mask, Figure 2).

One row per class of some photos with several classes: the photo, the spectral clustering of its
self-attention, Cross, the clusters' mean Cross (CBP), and SelfCross, with one noise.
"""

import sys

from attnseg.app import flags
from attnseg.backbones import load_backbone
from attnseg.errors import UserError, run
from attnseg.io.gpu import claim_device
from attnseg.results.chosen import with_several_classes
from attnseg.results.pictures import attention_figure
from attnseg.settings import ExtractionJob, Figure2
from attnseg.settings.cli import given_settings
from attnseg.text2mask.extract import Sample
from attnseg.text2mask.options import options_of
from attnseg.text2mask.stages import stages_of


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__,
        "--dataset --root --split --labels --model --revision --model-file --vocabulary --device",
        output="the picture, PNG or SVG",
        settings=ExtractionJob,
    )
    parser.add_argument("--count", type=int, default=Figure2().count, help="photos")
    args = parser.parse_args(argv)
    dataset = args.dataset
    settings = given_settings(args, ExtractionJob).but(cbp=True)
    labelled = [
        {"id": i, "classes": dataset.labels(args.root, i, args.labels, args.split)}
        for i in dataset.read_split(args.root, args.split)
    ]
    items = with_several_classes([(item, {}) for item in labelled if item["classes"]], args.count)
    if not items:
        raise UserError(f"{args.root}: no photo of split {args.split} has a class")
    device = claim_device(args.device)
    backbone = load_backbone(args.model, args.revision, device, file=args.model_file)
    options = options_of(backbone, settings, vocabulary=args.vocabulary or dataset)
    rows = []
    for item, _ in items:
        photo = dataset.read_photo(args.root, item["id"], args.split)
        rows.append(stages_of(backbone, Sample(item["id"], photo, item["classes"]), options))
    attention_figure(rows, args.output)
    print(f"{len(rows)} photos in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
