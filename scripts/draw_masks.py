#!/usr/bin/env python3
"""Draw photos, attention, pseudo masks and ground truth (Text2Mask, Figures 4, 6 and B.7).

A pixel of a pseudo mask is white if its best score, including the background's, leads the second by
less than 0.05. Photos are evenly spaced among those with several classes; with --similarity they are
failures: the worst mask of each of the pairs of classes most similar to the text encoder.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from attnseg import datasets
from attnseg.errors import UserError, run
from attnseg.io.shards import read_shards
from attnseg.results.chosen import with_several_classes
from attnseg.results.pictures import figure
from attnseg.results.similarity import failures
from attnseg.settings import Picture


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--dataset", type=datasets.load, default=datasets.DEFAULT, help=datasets.HELP
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of the data set")
    parser.add_argument("--split", help="needed if photos are in one folder per split")
    parser.add_argument("--attention", type=Path, required=True, help="folder of its shards")
    parser.add_argument("--masks", type=Path, required=True, help="folder of its masks")
    parser.add_argument(
        "--similarity", type=Path, help="output folder of measure_similarity.py, for failures"
    )
    parser.add_argument(
        "--count", type=int, default=Picture.model_fields["count"].default, help="photos"
    )
    parser.add_argument("--output", type=Path, required=True, help="the picture, PNG or SVG")
    args = parser.parse_args(argv)
    items = list(read_shards(args.attention))
    names = None
    if args.similarity is None:
        items = with_several_classes(items, args.count)
    else:
        wanted = worst_of_the_similar(args.similarity, args.count)
        by_id = {item["id"]: (item, maps) for item, maps in items}
        items, names = [by_id[name] for name in wanted], list(wanted.values())
    figure(args.dataset, args.root, items, args.masks, args.output, names, args.split)
    print(f"{len(items)} photos in {args.output}")
    return 0


def worst_of_the_similar(folder: Path, count: int) -> dict[str, str]:
    """Labels of photos by id: their most similar classes and these classes' cosine."""
    try:
        with np.load(folder / "per_image.npz", allow_pickle=False) as file:
            ids, closest, pair, miou = (file[k] for k in ("ids", "closest", "pair", "miou"))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"{folder}: {error}; run measure_similarity again") from None
    return {
        str(ids[i]): f"{str(pair[i]).replace(' and ', chr(10))}\ncosine {closest[i]:.2f}"
        for i in failures(closest, miou, pair, count)
    }


if __name__ == "__main__":
    sys.exit(run(main))
