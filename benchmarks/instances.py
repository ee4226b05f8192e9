#!/usr/bin/env python3
"""How well `attnseg export` tells objects of one class apart, on the mini world's scenes with several.

    python benchmarks/instances.py                 # a table
    python benchmarks/instances.py --splits dev    # where the settings of attnseg.core.cuts were chosen

The scenes of mini VOC's val and test in which a class has two objects or more go through `attnseg
segment --keep-attention` with the miniature, each with its classes. Instances by connected parts, by
connected parts of at least a quarter of the class, by clusters of the self-attention, and by the same
clusters where all cells attend to all alike (nearness alone, with the `COST` of a cut that is best for
it on dev), are compared with the true objects:
in the masks of `attnseg segment`, and in the true masks.

Objects and instances of a class in a scene are matched one to one by the largest sum of IoU. F1 counts
matches from 0.5 on; "IoU" is the mean over objects, unmatched ones 0; "number" is how often a class in
a scene has as many instances as objects. Instances of fewer than 4 pixels are left out.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
from PIL import Image
from scipy.optimize import linear_sum_assignment

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg.app import command, kept_attention  # noqa: E402
from attnseg.app.exports.masks import connected, instances  # noqa: E402
from attnseg.core import cuts  # noqa: E402
from attnseg.mini.world.scenes import Scene  # noqa: E402
from attnseg.mini.world.splits import VOC_SPLITS, voc_id, voc_scene  # noqa: E402

SMALLEST = 4  # pixels
NEARNESS_COST = 0.4  # of 0.05, 0.1, 0.2, 0.3, 0.4
Parts = Callable[[np.ndarray], np.ndarray]


def crowded(splits: list[str]) -> Iterator[tuple[str, Scene]]:
    """The scenes with several objects of a class, and their ids."""
    for split in splits:
        for index in range(VOC_SPLITS[split][1]):
            scene = voc_scene(0, split, index)
            if len(scene.things) > len(scene.classes()):
                yield voc_id(split, index), scene


def large(mask: np.ndarray) -> np.ndarray:
    """The connected parts that have a quarter of the mask or more."""
    parts = connected(mask)
    areas = np.bincount(parts.ravel())
    return np.where((areas >= cuts.LEAST * mask.sum())[parts], parts, 0)


def matched(found: list[np.ndarray], things: list[np.ndarray]) -> list[float]:
    """IoU of each thing with its instance, 0 without one; masks [H, W] bool."""
    overlaps = np.array([[(f & t).sum() / (f | t).sum() for f in found] for t in things])
    values = np.zeros(len(things))
    if found:
        rows, columns = linear_sum_assignment(overlaps, maximize=True)
        values[rows] = overlaps[rows, columns]
    return values.tolist()


def compared(
    masks: dict[str, np.ndarray], scenes: dict[str, Scene], ways: dict, several: bool
) -> None:
    """Print a line for each way; `several`: of classes with several objects alone."""
    for way, parts_of in ways.items():
        ious: list[float] = []
        count = right = groups = 0
        for image_id, labels in masks.items():
            classes = scenes[image_id].classes()
            for number, name in enumerate(classes, 1):
                things = [thing.mask for thing in scenes[image_id].things if thing.name == name]
                if several and len(things) < 2:
                    continue
                one = np.where(labels == number, number, 0).astype(np.uint8)
                found = []
                for each in instances(one, {number: name}, SMALLEST, parts_of(image_id)):
                    found.append(np.zeros(one.shape, bool))
                    x, y, width, height = each.box
                    found[-1][y : y + height, x : x + width] = each.inside
                ious += matched(found, things)
                count, groups = count + len(found), groups + 1
                right += len(found) == len(things)
        f1 = 200 * sum(iou >= 0.5 for iou in ious) / (len(ious) + count)
        print(
            f"  {way:34s} {f1:5.1f} {100 * np.mean(ious):5.1f} {100 * right / groups:6.1f}   "
            f"{count} of {len(ious)}"
        )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", choices=VOC_SPLITS, default=["val", "test"])
    args = parser.parse_args()
    scenes = dict(crowded(args.splits))
    with tempfile.TemporaryDirectory() as folder:
        photos, output = Path(folder, "photos"), Path(folder, "masks")
        photos.mkdir()
        rows = ["id,classes"]
        for image_id, scene in scenes.items():
            Image.fromarray(scene.image).save(photos / f"{image_id}.png")
            rows.append(f"{image_id},{';'.join(scene.classes())}")
        (photos / "labels.csv").write_text("\n".join(rows))
        words = [photos, "--model", REPOSITORY / "assets" / "mini_sd", "--keep-attention"]
        with contextlib.redirect_stdout(io.StringIO()):
            command.main(list(map(str, ["segment", *words, "--output", output])))
        names = json.loads((output / "manifest.json").read_text())["classes"]
        made, true = {}, {}
        for image_id, scene in scenes.items():
            labels = np.asarray(Image.open(output / f"{image_id}.png"))
            own = np.zeros(256, np.uint8)
            for number, name in enumerate(scene.classes(), 1):
                own[1 + names.index(name)] = number
            made[image_id], true[image_id] = own[labels], scene.labels(tuple(scene.classes()))
        kept = {image_id: kept_attention.read(output, image_id) for image_id in scenes}
    even = {i: replace(own, affinity=np.ones_like(own.affinity)) for i, own in kept.items()}

    def near(image_id: str) -> Parts:
        def objects(mask: np.ndarray) -> np.ndarray:
            with mock.patch.object(cuts, "COST", NEARNESS_COST):
                return even[image_id].objects(mask)

        return objects

    ways: dict[str, Callable[[str], Parts]] = {
        "connected parts": lambda _: connected,
        "connected parts, a quarter or more": lambda _: large,
        "clusters of self-attention": lambda image_id: kept[image_id].objects,
        "clusters by nearness alone": near,
    }
    print(
        f"{len(scenes)} scenes of {' and '.join(args.splits)}: F1, IoU, number, instances of objects"
    )
    for what, masks in (("masks of attnseg segment", made), ("true masks", true)):
        for several in (True, False):
            print(f"{what}, {'classes with several objects' if several else 'all classes'}")
            compared(masks, scenes, ways, several)
    return 0


if __name__ == "__main__":
    sys.exit(main())
