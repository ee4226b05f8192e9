#!/usr/bin/env python3
"""Score a folder of masks against the ground truth: IoU per class, mIoU, pixel accuracy.

    python scripts/evaluate_masks.py --dataset voc --root resources/VOCdevkit/VOC2012 \\
        --split train --masks work/masks/voc/train/base/crf \\
        --output work/evaluation/masks/voc/train/base/crf

Writes metrics.json and per_image.npz. Model, seed and parameters are taken from the manifest.json
beside the masks, if there is one, unless given as options.
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io.digests import check_files
from attnseg.io.files import read_sealed
from attnseg.results.iou import write_metrics
from attnseg.results.masks import evaluate_masks, truth_of


def parser() -> argparse.ArgumentParser:
    p = flags.program(__doc__, "--root --split --dataset-name", output="folder for the results")
    flags.add(p, "--dataset", required=True)
    p.add_argument("--masks", required=True, type=Path, help="folder of <id>.png")
    p.add_argument(
        "--attention",
        type=Path,
        help="the manifest.json of verify_shards.py that they come from: its precision and labels per second are added",
    )
    flags.add(p, "--limit", help="score this many images, from the first on")
    p.add_argument("--model", help="the model's name in the results (default: the manifest's)")
    p.add_argument(
        "--given",
        action="store_true",
        help="masks of others: a manifest beside them is none of ours",
    )
    p.add_argument("--seed", type=int, help="the run's seed (default: the manifest's)")
    return p


def manifest_parameters(masks: Path) -> dict:
    """The manifest of the masks, {} if there is none."""
    path = masks / "manifest.json"
    if not path.exists():
        return {}
    if (masks / "parameters.json").exists():  # the workflow's
        return dict(read_sealed(path)["parameters"] or {})
    try:
        return dict(json.loads(path.read_text()).get("parameters") or {})
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): refine the masks again") from error


def read_extraction(manifest: Path | None) -> dict:
    """{precision, timing, labels_per_second} of an extraction; null where it was not timed.

    A label is a class of a photo; times are those of batches.
    """
    if manifest is None:
        return {}
    content = read_sealed(manifest, ours=any(manifest.parent.glob("shard-*.safetensors")))
    timing = content.get("timing") or {}
    seconds = sum(timing.get("seconds", []))
    rate = round(sum(timing["labels"]) / seconds, 4) if seconds else None
    return {
        "precision": content.get("precision") or None,
        "labels_per_second": rate,
        "timing": timing if seconds else None,
    }


def from_parameters(parameters: dict, key: str) -> Any:
    """`key` of the parameters, or of those of the stage before, which they may hold in turn."""
    if parameters.get(key) is not None:
        return parameters[key]
    for value in parameters.values():
        if isinstance(value, dict) and (found := from_parameters(value, key)) is not None:
            return found
    return None


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if not args.masks.is_dir():
        raise UserError(
            f"{args.masks}: no such folder of masks; name one (--masks, methods.NAME.masks)"
        )
    truth = truth_of(args.dataset, args.root, args.split)
    if args.limit is not None:
        truth = replace(truth, ids=truth.ids[: args.limit])
    if not args.given:
        check_files(args.masks, [f"{image_id}.png" for image_id in truth.ids])
    tp, fp, fn = evaluate_masks(args.masks, truth)
    parameters = {"masks": str(args.masks)} if args.given else manifest_parameters(args.masks)
    model = args.model or from_parameters(parameters, "model")
    if isinstance(model, dict):
        model = model.get("path")
    seed = args.seed if args.seed is not None else from_parameters(parameters, "seed")
    metrics = write_metrics(
        args.output,
        truth.ids,
        tp,
        fp,
        fn,
        dataset=args.dataset_name or args.dataset.name,
        split=args.split,
        classes=truth.classes,
        model=model if model is None else str(model),
        seed=seed,
        parameters=parameters,
        **read_extraction(args.attention),
    )
    print(
        f"{metrics['dataset']} {metrics['split']}: {metrics['n_images']} images, "
        f"mIoU {metrics['miou']:.1f}, pixel accuracy {metrics['pixel_accuracy']:.1f}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
