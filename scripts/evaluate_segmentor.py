#!/usr/bin/env python3
"""Test a segmentor on a split: IoU per class, mIoU, pixel accuracy.

    python scripts/evaluate_segmentor.py --weights work/segmentors/deeplabv2_voc/weights.safetensors \\
        --dataset voc --root resources/VOCdevkit/VOC2012 --split val \\
        --set crf={} --output work/evaluation/deeplabv2_voc

A prediction merges those at several scales and is refined by the dense CRF. Writes metrics.json and
per_image.npz to --output. If the ground truth is not published (VOC test), --submission writes an
archive for the evaluation server; with --record, which says what became of it, absent photos are no
error.

An interrupted run is resumed: finished scores and masks are kept, in a hidden folder until the end.
With --scores, those that predict_segmentor.py wrote are used, which needs no GPU.
"""

import argparse
import shutil
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
from tqdm import tqdm

from attnseg.app import flags
from attnseg.datasets.images import read_mask
from attnseg.errors import UserError, run
from attnseg.io.digests import remove_damaged
from attnseg.io.files import start_folder, write_json
from attnseg.results.iou import counts, write_metrics
from attnseg.segmentation.data import split_pairs
from attnseg.settings import TestJob, read_segmentor
from attnseg.settings.cli import given_settings


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = flags.program(__doc__, "--dataset --dataset-name --root --device", settings=TestJob)
    parser.add_argument("--weights", type=Path, required=True, help="of train_segmentor.py")
    flags.add(parser, "--split", help="split to test on, such as val")
    parser.add_argument("--output", type=Path, help="folder for metrics.json and per_image.npz")
    parser.add_argument("--save-predictions", type=Path, help="folder for palette PNG files")
    parser.add_argument("--submission", type=Path, help=".tgz for VOC's evaluation server")
    parser.add_argument("--record", type=Path, help="JSON of the archive, or of why there is none")
    parser.add_argument(
        "--scores", type=Path, help="folder of predict_segmentor.py (default: predicted here)"
    )
    flags.add(parser, "--processes", default=None, help="of the CRF (default: the cores)")
    args = parser.parse_args(argv)
    if not (args.output or args.save_predictions or args.submission):
        raise UserError("nothing to write: give --output, --save-predictions or --submission")
    if args.record and (args.output or args.save_predictions or not args.submission):
        raise UserError("--record is of an archive: give it with --submission alone")
    if args.processes is not None and args.processes < 1:
        raise UserError(f"--processes {args.processes}: at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    # not at the top: the CRF's processes import this file, and must not import torch
    from attnseg.segmentation.model import read_about
    from attnseg.segmentation.predict import (
        labelled,
        read_manifests,
        usable_cores,
        write_scores,
        write_submission,
    )

    test, dataset = given_settings(args, TestJob), args.dataset
    try:
        classes, pairs = split_pairs(dataset, args.root, args.split)
        pairs.check("use --submission alone where the truth is secret", masks=bool(args.output))
    except UserError as error:
        if args.record is None:
            raise
        args.submission.unlink(missing_ok=True)  # of other weights
        write_json(args.record, {"archive": None, "missing": str(error)})
        print(f"{args.submission} is not made: {error}")
        return 0
    about = read_about(args.weights)
    settings = read_segmentor(about["settings"], str(args.weights))
    if about["classes"] != classes:
        raise UserError(
            f"{args.weights}: trained on the classes of {about.get('dataset')}, not of "
            f"{dataset.name}; give that data set"
        )
    started = time.monotonic()
    unfinished = (args.output or args.save_predictions or args.submission.parent) / (
        ".unfinished" if args.submission is None else f".{args.submission.stem}"
    )
    shards = write_scores(
        args.scores or unfinished / "scores", pairs, args.weights, test, args.device,
        anew=args.scores is None,
    )  # fmt: skip
    manifests = list(read_manifests(shards))
    masks = args.save_predictions or unfinished / "masks"
    made_with = {
        "test": test.record(),
        "scores": [manifest["parameters_hash"] for _, manifest in manifests],
        **dataset.identity(),
    }
    start_folder(masks, made_with, ["**/*.png"])
    remove_damaged(masks)
    files = {image_id: masks / f"{image_id}.png" for image_id in pairs.ids}
    kept = {image_id for image_id, file in files.items() if file.exists()}
    photos = dict(zip(pairs.ids, pairs.photos, strict=True))
    missing = (
        (shard, item, photos[item["id"]])
        for shard, manifest in manifests
        for item in manifest["items"]
        if item["id"] not in kept
    )
    found = {}

    def compare(image_id: str, labels: np.ndarray) -> None:
        if args.output:
            truth = dataset.read_truth(args.root, image_id, labels.shape, args.split)
            found[image_id] = counts(labels, truth, len(classes))

    for image_id in kept:
        compare(image_id, read_mask(files[image_id]))
    predicted = labelled(missing, test, args.processes or usable_cores(), pairs.turned)
    bar = tqdm(total=len(files), initial=len(kept), desc="test", unit="photo", disable=None)
    with closing(predicted), bar:
        for image_id, labels in predicted:
            dataset.write_mask(files[image_id], labels)
            compare(image_id, labels)
            bar.update()
    if args.submission:
        write_submission(args.submission, files)
    if args.record:
        write_json(args.record, {"archive": str(args.submission), "photos": len(files)})
    if args.output:
        tp, fp, fn = (np.stack(a) for a in zip(*(found[i] for i in pairs.ids), strict=True))
        trained, tested = about.get("precision"), manifests[0][1]["precision"]
        metrics = write_metrics(
            args.output,
            pairs.ids,
            tp,
            fp,
            fn,
            dataset=args.dataset_name or dataset.name,
            split=args.split,
            classes=classes,
            model=settings.name,
            seed=settings.seed,
            precision=" ".join(dict.fromkeys(filter(None, (trained, tested)))),
            parameters={
                **test.dump(),
                "segmentor": settings.dump(),
                "train": about.get("train"),
            },
        )
        print(
            f"{metrics['dataset']} {args.split}: {settings.name}, mIoU {metrics['miou']:.1f}, "
            f"pixel accuracy {metrics['pixel_accuracy']:.1f}"
        )
    shutil.rmtree(unfinished, ignore_errors=True)
    print(f"{len(pairs.ids)} photos in {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
