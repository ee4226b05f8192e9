#!/usr/bin/env python3
"""Measure the similarity of each image's classes to the text encoder, and its mask's mean IoU.

    python scripts/measure_similarity.py --dataset voc --root resources/VOCdevkit/VOC2012 \\
        --split train --model assets/mini_sd --evaluation work/evaluation/masks/voc/train/base/crf \\
        --output work/evaluation/similarity/voc/train/base/crf

A class's embedding is the mean over its tokens in a query with only this class. Images with fewer than
two classes are left out. Writes metrics.json (classes and their cosines) and per_image.npz (ids;
similarity: the mean over pairs of an image's classes; closest, pair: its most similar pair; miou).
"""

import sys
from pathlib import Path

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.results.iou import read_metrics
from attnseg.results.measured import write_measured
from attnseg.results.similarity import cosines, image_miou, pairs_of
from attnseg.text2mask.queries import class_embeddings


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(
        __doc__, "--dataset --root --split --labels", output="folder for the results"
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a Stable Diffusion")
    parser.add_argument(
        "--evaluation", type=Path, required=True, help="folder of the masks' evaluation"
    )
    args = parser.parse_args(argv)
    dataset = args.dataset
    measured, arrays = read_metrics(args.evaluation)
    scores = image_miou(arrays["tp"], arrays["fp"], arrays["fn"])
    present = [
        dataset.labels(args.root, str(name), args.labels, args.split) for name in arrays["ids"]
    ]
    several = [i for i, classes in enumerate(present) if len(classes) > 1]
    if len(several) < 3:
        raise UserError(f"{args.evaluation}: {len(several)} images have two or more classes")
    similarity = cosines(class_embeddings(args.model, dataset))
    pairs = [pairs_of(present[i], dataset.classes, similarity) for i in several]
    write_measured(
        args.output,
        "per_image.npz",
        {
            "ids": arrays["ids"][several],
            "similarity": [pair.mean for pair in pairs],
            "closest": [pair.closest for pair in pairs],
            "pair": [" and ".join(pair.names) for pair in pairs],
            "miou": scores[several],
        },
        {
            "dataset": measured["dataset"],
            "split": measured["split"],
            "n_images": len(several),
            "model": measured["model"],
            "seed": measured["seed"],
            "classes": dataset.classes,
            "similarity": similarity.round(4).tolist(),
        },
    )
    print(f"{len(several)} of {len(present)} images have two or more classes -> {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
