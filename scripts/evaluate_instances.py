#!/usr/bin/env python3
"""Score the predictions of segment_instances.py: mIoU, bf_acc and af_acc per split and method.

Writes <split>/<method>/metrics.json and per_triplet.npz (ids, views, iou, found_alone,
found_together [N]) to --output, and prints the metrics and the chance level. order.json lists where
the paper's order of ours, subject only and context only does not hold.
"""

import sys
from pathlib import Path

import numpy as np

from attnseg.app import flags
from attnseg.datasets.mug19 import SPLITS, read_mug19
from attnseg.errors import run
from attnseg.evaluations import MEASURES
from attnseg.io.files import sealed, write_json
from attnseg.personalised.predictions import read_predictions, read_rows
from attnseg.personalised.scores import order_notes, partial_data, remarks, score, split_metrics
from attnseg.results.measured import write_measured


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="folder for the results")
    flags.add(parser, "--root", help="Mug19 folder")
    parser.add_argument(
        "--predictions", type=Path, required=True, help="output folder of segment_instances.py"
    )
    parser.add_argument("--dataset-name", default="mug19", help="in the results, as mini_mug19")
    args = parser.parse_args(argv)
    data = read_mug19(args.root)
    manifest, segments = read_predictions(args.predictions)
    parameters = manifest["parameters"]
    measured: dict[str, dict[str, dict]] = {}
    counts: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    views = {triplet.id: f"{triplet.scene}/{triplet.view}" for triplet in data.triplets}
    for method, about in manifest["methods"].items():
        if "not_run" in about:
            print(f"{method}: not run: {about['not_run']}")
            for split in SPLITS:
                content = {
                    "dataset": args.dataset_name, "split": split, "method": method, "n_triplets": 0,
                    **dict.fromkeys(MEASURES), "remarks": [about["not_run"]],
                }  # fmt: skip
                write_json(args.output / split / method / "metrics.json", sealed(content))
            continue
        rows = read_rows(args.predictions / f"{method}.safetensors")
        scores = score(
            partial_data(data, rows),
            segments,
            rows,
            threshold=parameters["foreground_threshold"],
            true_masks=about.get("true_masks", False),
        )
        for split in SPLITS:
            metrics, part = split_metrics(partial_data(data, rows), scores, split)
            measured.setdefault(split, {})[method] = metrics
            counts[split, method] = {
                "ids": np.asarray(part.ids, str),
                "views": np.asarray([views[i] for i in part.ids], str), "iou": part.iou,
                "found_alone": part.found_alone, "found_together": part.found_together,
            }  # fmt: skip
    notes = order_notes(measured)
    for split, methods in measured.items():
        for method, metrics in methods.items():
            about = manifest["methods"][method]
            content = {
                "dataset": args.dataset_name, "split": split, "method": method, **metrics,
                "model": about["model"], "seed": parameters["seed"], "parameters": parameters,
                "remarks": remarks(split, metrics, about, parameters),
            }  # fmt: skip
            if "seconds_per_instance" in about:
                content["seconds_per_instance"] = about["seconds_per_instance"]
            folder = args.output / split / method
            write_measured(folder, "per_triplet.npz", counts[split, method], content)
    show(measured)
    write_json(args.output / "order.json", notes)
    if "custom_selfcross" in manifest["methods"] and len(measured["all"]) > 1:
        print("\n".join(notes) or "the paper's order of ours, subject and context holds")
    return 0


def show(measured: dict[str, dict[str, dict]]) -> None:
    for split, methods in measured.items():
        first = next(iter(methods.values()))
        if not first["n_triplets"]:
            continue
        print(f"{split}: {first['n_triplets']} triplets, chance {first['chance']:.1f}")
        for method, metrics in methods.items():
            values = "  ".join(
                f"{name} {metrics[name]:5.1f}" for name in ("miou", "bf_acc", "af_acc")
            )
            print(f"  {method:18s}{values}")


if __name__ == "__main__":
    sys.exit(run(main))
