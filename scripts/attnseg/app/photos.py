"""Many photos segmented in batches, for a folder of masks."""

import argparse
import contextlib
import functools
import os
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from attnseg.app import kept_attention
from attnseg.app.folders import make_masks, pictures, read
from attnseg.app.mask_files import Unit, write
from attnseg.app.photo import asked, loaded, named_classes, refinement, vocabulary
from attnseg.backbones.interface import Backbone
from attnseg.core.sizes import reduced
from attnseg.datasets.labels import read_labels
from attnseg.errors import UserError, some
from attnseg.io.processes import pool
from attnseg.text2mask.extract import Sample, fit_of
from attnseg.text2mask.options import Options
from attnseg.text2mask.segment import maps_of
from attnseg.text2mask.sizes import refinement_for

TOGETHER, PIXELS = 32, 24_000_000  # photos that are in memory together, and their pixels
PASSED = 2**19  # pixels, with padding, that pass the network together on a CPU


def segment_all(args: argparse.Namespace) -> int:
    """`attnseg segment` of many photos; 1 if some could not be read, else 0."""
    found, problems = pictures(args.photos, args.output)
    classes, labels = wanted(args, found)
    made_with = {
        name: getattr(args, name)
        for name in (
            *("model", "revision", "model_file", "noises", "crf", "cross_blocks", "self_block"),
            *("synonyms", "background_words", "seed", "exif"),
        )
    } | {"classes": classes}
    # folders made before these flags, or before there could be several self blocks, are resumed
    later = ("iterations", "set", "keep_attention")
    made_with |= {name: value for name in later if (value := getattr(args, name))}
    if args.reading != "attention":
        made_with["reading"] = args.reading
    if args.self_block and len(args.self_block) == 1:
        made_with["self_block"] = args.self_block[0]
    refinement(args)  # a mistake is said before the model is loaded

    def make(todo: dict[str, Path]) -> Iterator[tuple[str, dict]]:
        backbone = loaded(args)
        options = asked(backbone, args, noises=4, vocabulary=vocabulary(args, classes))
        yield from made(args, backbone, options, todo, labels, classes)

    return make_masks(args.output, made_with, found, labels, problems, args.overwrite, make)


def wanted(
    args: argparse.Namespace, found: dict[str, Path]
) -> tuple[list[str], dict[str, list[str]]]:
    """All classes, whose order numbers them, and those of each photo that is to be segmented."""
    classes = named_classes(args.classes) if args.classes is not None else None
    if args.labels is None:
        return classes or [], {image_id: classes or [] for image_id in found}
    listed = read_labels(args.labels, tuple(classes) if classes else None)
    labels, strays = {}, set(listed)
    for image_id, path in found.items():
        name = next((n for n in (image_id, image_id + path.suffix) if n in listed), None)
        if name is not None:
            labels[image_id] = listed[name]
            strays.discard(name)
    if labels and strays:
        told = some(sorted(strays))
        print(f"{args.labels}: {len(strays)} lines for none of the photos: {told}", file=sys.stderr)
    if not labels:
        raise UserError(
            f"{args.labels}: no line for any of the photos; their ids are such as {next(iter(found))}"
        )
    named = classes or named_classes(",".join(sorted({n for ns in labels.values() for n in ns})))
    return named, labels


def made(
    args: argparse.Namespace,
    backbone: Backbone,
    options: Options,
    todo: dict[str, Path],
    labels: dict[str, list[str]],
    classes: list[str],
) -> Iterator[tuple[str, dict]]:
    """(id, its entry in the manifest) of each photo, once its mask and overlay are written.

    Other processes make these while the network looks at the next photos; of one, this one.
    """
    changed = refinement(args)
    keep = functools.partial(kept_attention.write, args.output) if args.keep_attention else None
    processes = args.processes or len(os.sched_getaffinity(0))
    waiting: deque[tuple[str, int]] = deque()
    with contextlib.ExitStack() as stack:
        workers = None
        if processes > 1:
            workers = stack.enter_context(
                pool(processes, "spawn", functools.partial(torch.set_num_threads, 1))
            )
        for group in groups(read(todo, args.exif == "turn")):
            samples, sizes = [], {}
            for image_id, image in group:
                if isinstance(image, str):
                    yield image_id, {"problem": image}
                    continue
                sizes[image_id] = image.shape[:2]
                samples.append(Sample(image_id, reduced(image), labels[image_id]))
            size = args.batch_size or together(backbone, options, samples)
            found = maps_of(backbone, samples, options, size, keep)
            for sample, (item, maps) in zip(samples, found, strict=True):
                unit = Unit(
                    sample.id,
                    sample.image,
                    sizes[sample.id],
                    item,
                    maps.half().numpy(),
                    {classes.index(name) + 1: name for name in sample.classes},
                    refinement_for(sample.image.shape, args.crf, changed),
                    args.output,
                )
                if workers is None:
                    yield sample.id, write(unit)
                else:
                    waiting.append((sample.id, workers.submit(write, unit)))
            while (
                workers
                and waiting
                and (len(waiting) > 4 * processes or workers.done(waiting[0][1]))
            ):
                image_id, number = waiting.popleft()
                yield image_id, workers.result(number)
        while workers and waiting:
            image_id, number = waiting.popleft()
            yield image_id, workers.result(number)


def groups(
    photos: Iterable[tuple[str, np.ndarray | str]],
) -> Iterator[list[tuple[str, np.ndarray | str]]]:
    """Runs of photos that fit into memory together."""
    group: list[tuple[str, np.ndarray | str]] = []
    pixels = 0
    for image_id, image in photos:
        more = 0 if isinstance(image, str) else image.shape[0] * image.shape[1]
        if group and (len(group) == TOGETHER or pixels + more > PIXELS):
            yield group
            group, pixels = [], 0
        group.append((image_id, image))
        pixels += more
    if group:
        yield group


def together(backbone: Backbone, options: Options, samples: list[Sample]) -> int:
    """How many photos, counting noises, pass the network together."""
    if backbone.device.type != "cpu" or not samples:
        return options.batch_size
    padded = [fit_of(sample.image, backbone, options).padded for sample in samples]
    return min(TOGETHER, max(1, PASSED // max(height * width for height, width in padded)))
