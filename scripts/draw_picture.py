#!/usr/bin/env python3
"""Draw samples beside what was found in them. They are spread evenly over all; only failures are chosen.

masks        photos, their attention, pseudo masks and ground truth (Text2Mask, Figures 4, 6 and B.7). A
             pixel of a pseudo mask is white where the best score of the attention, the background's
             included, leads the second by less than 0.05. With --similarity they are failures: of the
             classes that are most alike to the text encoder, the worst mask
readings     photos, the masks of several readings of the attention, and ground truth
generated    generated images, their words' attention, masks and reliability (attn2mask, Figures 4, 5)
adaptation   photos of a domain above images and attention without and with its LoRA (attn2mask, Figure 6)
instances    what each method of segment_instances.py finds: subject, scene, segments, truth
             (Text2Mask, Figure 5)

    python scripts/draw_picture.py masks --root resources/VOCdevkit/VOC2012 \\
        --attention work/attention/voc/train/base --masks work/masks/voc/train/base/crf --output picture.png
"""

import argparse
import json
import sys
from pathlib import Path

import torch

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io.files import images_in
from attnseg.io.shards import read_shards
from attnseg.personalised import pictures as instance_pictures
from attnseg.results.chosen import spread, with_several_classes
from attnseg.results.generated_pictures import adaptation_figure, attention_figure
from attnseg.results.pictures import figure, readings_figure
from attnseg.results.similarity import worst_of_the_similar
from attnseg.settings import Picture
from attnseg.text2mask.presence import sentences


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__)
    kinds = parser.add_subparsers(dest="kind", metavar="kind", required=True)
    for name, (draw, own) in KINDS.items():
        kind = kinds.add_parser(name)
        kind.set_defaults(draw=draw)
        for flag in (*own, "--count", "--output"):
            kind.add_argument(flag, **FLAGS[flag])
    args = parser.parse_args(argv)
    if args.count < 1:
        raise UserError("--count must be at least 1")
    args.draw(args)
    print(f"{args.kind} -> {args.output}")
    return 0


def draw_masks(args: argparse.Namespace) -> None:
    items = [(item, maps) for item, maps in read_shards(args.attention) if item["classes"]]
    if not items:
        raise UserError(f"{args.attention}: no photo has a class; check the labels")
    names = None
    if args.similarity is None:
        items = with_several_classes(items, args.count)
    else:
        wanted = worst_of_the_similar(args.similarity, args.count)
        by_id = {item["id"]: (item, maps) for item, maps in items}
        items, names = [by_id[name] for name in wanted], list(wanted.values())
    truth = not args.no_truth
    where = args.dataset, args.root, items, args.masks, args.output
    made = json.loads((args.masks / "manifest.json").read_text()).get("parameters", {})
    about = sentences(made["presence"]) if "presence" in made else None
    figure(*where, names, args.split, truth, args.stored, about)


def draw_readings(args: argparse.Namespace) -> None:
    items = [(item, maps) for item, maps in read_shards(args.attention) if item["classes"]]
    ids = [item["id"] for item, _ in with_several_classes(items, args.count)]
    masks = {name: Path(folder) for name, folder in args.readings.items()}
    readings_figure(args.dataset, args.root, ids, masks, args.output, args.split)


def draw_generated(args: argparse.Namespace) -> None:
    there = [s for s in samples(args.attention) if (args.masks / f"{s[0]['id']}.png").is_file()]
    if not there:
        raise UserError(f"{args.masks} has no mask of a sample in {args.attention}")
    shown = with_several_classes(there, args.count)
    attention_figure(shown, args.images, args.masks, args.output)


def draw_adaptation(args: argparse.Namespace) -> None:
    targets = images_in(args.target, below=True)
    if not targets:
        raise UserError(f"{args.target} has no pictures; name the folder they are in")
    before, after = (
        [(folder / "images" / item["image"], maps) for item, maps in samples(folder)]
        for folder in (args.before, args.after)
    )
    targets, before, after = (spread(some, args.count) for some in (targets, before, after))
    adaptation_figure(targets, before, after, args.output)


def draw_instances(args: argparse.Namespace) -> None:
    instance_pictures.draw(args.root, args.predictions, args.count, args.output)


def samples(folder: Path) -> list[tuple[dict, torch.Tensor]]:
    """The generated samples of a folder that were not skipped, with their maps [K, h, w]."""
    there = [(item, maps["cross"]) for item, maps in read_shards(folder) if not item["skipped"]]
    if not there:
        raise UserError(f"{folder}: every sample was skipped; see its manifests for the reasons")
    return there


def folder(about: str) -> dict:
    return {"type": Path, "required": True, "help": f"folder of {about}"}


KINDS = {
    "masks": (draw_masks, ("--dataset", "--root", "--split", "--no-truth", "--stored", "--attention", "--masks", "--similarity")),
    "readings": (draw_readings, ("--dataset", "--root", "--split", "--attention", "--readings")),
    "generated": (draw_generated, ("--attention", "--images", "--masks")),
    "adaptation": (draw_adaptation, ("--target", "--before", "--after")),
    "instances": (draw_instances, ("--root", "--predictions")),
}  # fmt: skip
FLAGS = flags.SHARED | {
    "--split": {"help": "where photos lie in folders of their split"},
    "--stored": {"action": "store_true", "help": "show masks as stored, uncertain pixels as well"},
    "--no-truth": {"action": "store_true", "help": "there is no ground truth to show"},
    "--masks": folder("their masks"),
    "--readings": {
        "type": json.loads,
        "required": True,
        "help": 'JSON, folders of masks by name: {"U-Net": "work/masks/voc/train/once/none"}',
    },
    "--similarity": {"type": Path, "help": "output of measure_similarity.py, for failures"},
    "--target": folder("the domain's photos"),
    "--before": folder("what was generated without it: shards, images/"),
    "--after": folder("what was generated with it: shards, images/"),
    "--predictions": folder("the output of segment_instances.py"),
    "--count": {
        "type": int,
        "default": Picture.model_fields["count"].default,
        "help": "rows, or pictures in a row of `adaptation`",
    },
    "--output": {"type": Path, "required": True, "help": "the picture, PNG or SVG"},
}


if __name__ == "__main__":
    sys.exit(run(main))
