#!/usr/bin/env python3
"""Test a segmentor on a split: IoU per class, mIoU, pixel accuracy.

    python scripts/evaluate_segmentor.py --weights work/segmentors/deeplabv2_voc/weights.safetensors \\
        --dataset voc --root resources/VOCdevkit/VOC2012 --split val \\
        --set crf={} --output work/evaluation/deeplabv2_voc

A prediction merges those at several scales and is refined by the dense CRF. Writes metrics.json and per_image.npz to --output. If the ground truth is not published
(VOC test), --submission writes an archive for the evaluation server.
"""

import argparse
import contextlib
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from attnseg import datasets
from attnseg.datasets.images import read_image
from attnseg.errors import UserError, run
from attnseg.results.iou import counts, write_metrics
from attnseg.segmentation.data import split_pairs
from attnseg.settings import TestJob, read_segmentor
from attnseg.settings.cli import add_settings, given_settings


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_settings(parser, TestJob)
    parser.add_argument("--weights", type=Path, required=True, help="of train_segmentor.py")
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--dataset-name", help="its name in the results (default: --dataset)")
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", required=True, help="split to test on, such as val")
    parser.add_argument("--output", type=Path, help="folder for metrics.json and per_image.npz")
    parser.add_argument("--save-predictions", type=Path, help="folder for palette PNG files")
    parser.add_argument("--submission", type=Path, help=".tgz for VOC's evaluation server")
    parser.add_argument("--processes", type=int, help="of the CRF (default: the cores)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    args = parser.parse_args(argv)
    if not (args.output or args.save_predictions or args.submission):
        raise UserError("nothing to write: give --output, --save-predictions or --submission")
    if args.processes is not None and args.processes < 1:
        raise UserError(f"--processes {args.processes}: at least 1")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    # not at the top: the CRF's processes import this file, and must not import torch
    from attnseg.io.gpu import claim_device

    test, dataset = given_settings(args, TestJob), args.dataset
    classes, pairs = split_pairs(dataset, args.root, args.split)
    pairs.check("use --submission alone where the truth is secret", masks=bool(args.output))
    started, found = time.time(), {}
    with contextlib.ExitStack() as stack:
        device = claim_device(args.device)

        from attnseg.io.precision import number_format
        from attnseg.segmentation.model import load_segmentor
        from attnseg.segmentation.predict import Submission, predictions, usable_cores

        model, about = load_segmentor(args.weights, device)
        settings = read_segmentor(about["settings"], str(args.weights))
        trained, tested = about.get("precision"), number_format(settings.precision, device)
        if about["classes"] != classes:
            raise UserError(
                f"{args.weights}: trained on the classes of {about.get('dataset')}, not of "
                f"{dataset.name}; give that data set"
            )
        archive = args.submission and stack.enter_context(
            Submission(args.submission, dataset.colours())
        )
        photos = ((i, read_image(p)) for i, p in zip(pairs.ids, pairs.photos, strict=True))
        predicted = predictions(
            model,
            photos,
            test,
            processes=args.processes or usable_cores(),
        )
        bar = tqdm(predicted, total=len(pairs.ids), desc="test", unit="photo", disable=None)
        for image_id, labels in bar:
            if args.output:
                expected = dataset.read_truth(args.root, image_id, labels.shape, args.split)
                found[image_id] = counts(labels, expected, len(classes))
            if args.save_predictions:
                dataset.write_mask(args.save_predictions / f"{image_id}.png", labels)
            if archive:
                archive.add(image_id, labels)
    seconds = time.time() - started
    print(f"{len(pairs.ids)} photos in {seconds:.1f} s")
    if args.output:
        tp, fp, fn = (np.stack(arrays) for arrays in zip(*found.values(), strict=True))
        metrics = write_metrics(
            args.output,
            list(found),
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
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
