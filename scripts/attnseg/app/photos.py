"""Many photos to a folder of masks: found, read, segmented in batches, resumed, and looked through."""

import argparse
import contextlib
import glob
import json
import multiprocessing
import os
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from attnseg.app import sheet
from attnseg.app.mask_files import Unit, write
from attnseg.app.photo import asked, loaded, named_classes, vocabulary
from attnseg.backbones.interface import Backbone
from attnseg.datasets.images import read_image
from attnseg.datasets.labels import read_labels
from attnseg.errors import UserError
from attnseg.io.files import write_json
from attnseg.text2mask.extract import Options, Sample, fit_of
from attnseg.text2mask.segment import maps_of
from attnseg.text2mask.sizes import reduced

TOGETHER, PIXELS = 32, 24_000_000  # photos that are in memory together, and their pixels
PASSED = 2**19  # pixels, with padding, that pass the network together on a CPU
SAVED = 10  # seconds between two records of what is finished


def segment_all(args: argparse.Namespace) -> int:
    """`attnseg segment` of many photos; 1 if some could not be read, else 0."""
    output: Path = args.output
    found, problems = pictures(args.photos, output)
    classes, labels = wanted(args, found)
    unlisted = [i for i in found if i not in labels]
    made_with = {
        name: getattr(args, name)
        for name in (
            *("model", "revision", "model_file", "noises", "crf", "cross_blocks", "self_block"),
            *("synonyms", "background_words", "seed", "exif"),
        )
    } | {"classes": classes}
    record = start(output, made_with, found, args.overwrite)
    done: dict[str, dict] = record["photos"]
    states = {i: state_of(path, labels[i]) for i, path in found.items() if i in labels}
    todo = {i: found[i] for i in states if not finished(output, i, done.get(i), states[i])}
    kept = len(states) - len(todo)
    if todo:
        backbone = loaded(args)
        options = asked(backbone, args, noises=4, vocabulary=vocabulary(args, classes))
        started = saved = time.monotonic()
        bar = tqdm(
            total=len(states),
            initial=kept,
            desc="segment",
            unit="photo",
            mininterval=0.5 if sys.stderr.isatty() else 20,
        )
        try:
            for image_id, entry in made(args, backbone, options, todo, labels, classes):
                if "problem" in entry:
                    problems.append(entry["problem"])
                else:
                    done[image_id] = states[image_id] | entry
                bar.update()
                if time.monotonic() - saved > SAVED:
                    write_json(output / "manifest.json", record)
                    saved = time.monotonic()
        finally:
            bar.close()
            write_json(output / "manifest.json", record)
        seconds = time.monotonic() - started
        count = sum(i in done for i in todo)
        if count:
            print(f"{count} photos in {seconds:.1f} s ({count / seconds:.2f} per second)")
    shown = {i: done[i] for i in sorted(states) if i in done}
    sheet.write(output / "index.html", shown, classes)
    summary(output, shown, kept, unlisted, problems)
    return int(bool(problems))


def summary(
    output: Path, shown: dict[str, dict], kept: int, unlisted: list[str], problems: list[str]
) -> None:
    """Print what is there and what is not, each with its name."""
    if kept:
        print(f"{kept} finished before, and kept")
    constant = [i for i, entry in shown.items() if entry["skipped"]]
    if constant:
        print(f"{len(constant)} with a class that has no attention at all: {some(constant)}")
    if unlisted:
        print(f"{len(unlisted)} left out, without a line in the labels: {some(unlisted)}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(shown)} masks in {output}; look through them in {output / 'index.html'}")


def some(names: list[str], most: int = 5) -> str:
    """The first names, and how many more."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


# -- what is there


def pictures(asked: Iterable[str], output: Path) -> tuple[dict[str, Path], list[str]]:
    """The photos by their ids, and what is wrong with files that should be photos.

    An id is the path below the named folder, without suffix. Files of a folder that are no pictures are
    named on stderr; hidden ones, and those in `output`, are none of the photos.

    Raises:
        UserError: if a name leads to nothing, or two photos have one id.
    """
    found: dict[str, Path] = {}
    problems: list[str] = []
    others: list[str] = []
    for base, path in files(asked, output):
        kind = kind_of(path)
        if kind == "damaged":
            problems.append(f"{path}: not a readable image; replace it")
        elif kind == "other":
            others.append(path.name)
        else:
            image_id = path.relative_to(base).with_suffix("").as_posix()
            if image_id in found and found[image_id] != path:
                raise UserError(
                    f"{found[image_id]} and {path}: their masks would have one name; rename one"
                )
            found[image_id] = path
    if others:
        print(f"{len(others)} files are no pictures: {some(others)}", file=sys.stderr)
    if not found and not problems:
        raise UserError(f"{', '.join(asked)}: no photos there; name a folder of photos")
    return found, problems


def files(asked: Iterable[str], output: Path) -> Iterator[tuple[Path, Path]]:
    """(the folder that was named, a file of it), sorted."""
    masks = output.resolve()
    for name in asked:
        places = [Path(name)]
        if not places[0].exists():
            places = [Path(place) for place in sorted(glob.glob(name, recursive=True))]
        if not places:
            raise UserError(f"{name}: no such photo or folder; correct the path")
        for place in places:
            if not place.is_dir():
                yield place.parent, place
                continue
            for where, folders, names in os.walk(place):
                folders[:] = sorted(
                    folder
                    for folder in folders
                    if not folder.startswith(".") and Path(where, folder).resolve() != masks
                )
                if Path(where).resolve() != masks:
                    yield from (
                        (place, Path(where, each)) for each in sorted(names) if each[0] != "."
                    )


def kind_of(path: Path) -> str:
    """picture, damaged (a picture by its suffix alone) or other."""
    try:
        with Image.open(path):
            return "picture"
    except (UnidentifiedImageError, OSError):
        known = path.suffix.lower() in Image.registered_extensions()
        return "damaged" if known else "other"
    except Exception:  # what reads the whole photo says what is wrong
        return "picture"


def wanted(
    args: argparse.Namespace, found: dict[str, Path]
) -> tuple[list[str], dict[str, list[str]]]:
    """All classes, whose order numbers them, and those of each photo that is to be segmented."""
    classes = named_classes(args.classes) if args.classes is not None else None
    if args.labels is None:
        return classes or [], {image_id: classes or [] for image_id in found}
    listed = read_labels(args.labels, tuple(classes) if classes else None)
    labels = {}
    for image_id, path in found.items():
        name = next((n for n in (image_id, image_id + path.suffix) if n in listed), None)
        if name is not None:
            labels[image_id] = listed[name]
    if not labels:
        raise UserError(
            f"{args.labels}: no line for any of the photos; their ids are such as {next(iter(found))}"
        )
    named = classes or named_classes(",".join(sorted({n for ns in labels.values() for n in ns})))
    return named, labels


def start(output: Path, made_with: dict, found: dict[str, Path], overwrite: bool) -> dict:
    """The record of the folder of masks; a new one if there is none.

    Raises:
        UserError: if the folder's masks were made with other settings, or are not this program's.
    """
    path = output / "manifest.json"
    new = {"made_with": made_with, "classes": made_with["classes"], "photos": {}}
    record = json.loads(path.read_text()) if path.exists() else None
    if record is None:
        there = [mask for i in found if (mask := output / f"{i}.png").exists()]
        if there:
            raise UserError(f"{there[0]}: is there already, and not a mask of this program; name a new folder")  # fmt: skip
    elif record.get("made_with") == made_with:
        return record
    elif not overwrite:
        other = [n for n in made_with if record.get("made_with", {}).get(n) != made_with[n]]
        raise UserError(
            f"{output}: its masks were made with another {other[0].replace('_', ' ')}; name a new "
            "folder, or make them again with --overwrite"
        )
    write_json(path, new)
    return new


def state_of(path: Path, classes: list[str]) -> dict:
    """What a mask depends on, besides the settings."""
    stat = path.stat()
    return {
        "photo": str(path),
        "bytes": stat.st_size,
        "changed": stat.st_mtime_ns,
        "classes": classes,
    }


def finished(output: Path, image_id: str, entry: dict | None, state: dict) -> bool:
    files = (output / f"{image_id}.png", output / "overlays" / f"{image_id}.jpg")
    same = entry is not None and state.items() <= entry.items()
    return same and all(file.is_file() for file in files)


# -- from photos to masks


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
    processes = args.processes or len(os.sched_getaffinity(0))
    waiting: deque[tuple[str, Future]] = deque()
    with contextlib.ExitStack() as stack:
        pool = None
        if processes > 1:  # spawn: forking a process in which torch has threads or a GPU may hang
            context = multiprocessing.get_context("spawn")
            workers = ProcessPoolExecutor(processes, context, torch.set_num_threads, (1,))
            pool = stack.enter_context(workers)
        for group in groups(read(todo, args.exif == "turn")):
            samples, sizes = [], {}
            for image_id, image in group:
                if isinstance(image, str):
                    yield image_id, {"problem": image}
                    continue
                sizes[image_id] = image.shape[:2]
                samples.append(Sample(image_id, reduced(image), labels[image_id]))
            size = args.batch_size or together(backbone, options, samples)
            found = maps_of(backbone, samples, options, size)
            for sample, (item, maps) in zip(samples, found, strict=True):
                unit = Unit(
                    sample.id,
                    sample.image,
                    sizes[sample.id],
                    item,
                    maps.half().numpy(),
                    {classes.index(name) + 1: name for name in sample.classes},
                    args.crf,
                    args.output,
                )
                if pool is None:
                    yield sample.id, write(unit)
                else:
                    waiting.append((sample.id, pool.submit(write, unit)))
            while waiting and (len(waiting) > 4 * processes or waiting[0][1].done()):
                image_id, future = waiting.popleft()
                yield image_id, future.result()
        for image_id, future in waiting:
            yield image_id, future.result()


def read(todo: dict[str, Path], turn: bool) -> Iterator[tuple[str, np.ndarray | str]]:
    """(id, the photo [H, W, 3] uint8) or (id, what is wrong with it)."""
    for image_id, path in todo.items():
        try:
            yield image_id, read_image(path, turn)
        except UserError as error:
            yield image_id, str(error)


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
