"""A folder of photos in, a folder of masks out: found, read, resumed, and told. No torch here."""

import glob
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from attnseg.app import overlay, sheet
from attnseg.datasets.images import read_image
from attnseg.errors import UserError, readable, some
from attnseg.io.files import parsed, renamed, sha256, write_json

LABELS = "labels.csv"  # in a folder of photos: the classes of each
HEIC = {".heic", ".heif"}  # pictures that Pillow does not read: phones' photos, not to be left out
SAVED = 10  # seconds between two records of what is finished


def make_masks(
    output: Path,
    made_with: dict,
    found: dict[str, Path],
    labels: Mapping[str, list[str]],
    problems: list[str],
    overwrite: bool,
    make: Callable[[dict[str, Path]], Iterator[tuple[str, dict]]],
) -> int:
    """Make the masks that are not finished, and say what there is; 1 if there are problems, else 0.

    Args:
        made_with: what all masks depend on; `classes` are numbered from 1.
        labels: the classes of the photos that are wanted.
        problems: what is wrong with files that are no photos; more are added.
        make: writes the files of these photos and yields their ids and entries in the manifest, or
            {"problem": a line}.
    """
    record = start(output, made_with, found, overwrite)
    done: dict[str, dict] = record["photos"]
    states = {i: state_of(path, labels[i]) for i, path in found.items() if i in labels}
    todo = {i: found[i] for i in states if not finished(output, i, done.get(i), states[i])}
    keep_edited(output, {i: done[i] for i in todo if i in done})
    if todo:
        started = saved = time.monotonic()
        try:
            for image_id, entry in told(make(todo), len(todo)):
                if "problem" in entry:
                    problems.append(entry["problem"])
                else:
                    done[image_id] = states[image_id] | entry
                if time.monotonic() - saved > SAVED:
                    write_json(output / "manifest.json", record)
                    saved = time.monotonic()
        finally:
            write_json(output / "manifest.json", record)
        seconds = time.monotonic() - started
        count = sum(i in done for i in todo)
        if count:
            print(f"{count} photos in {seconds:.1f} s ({count / seconds:.2f} per second)")
    shown = {i: done[i] for i in sorted(states) if i in done}
    sheet.write(output / "index.html", shown, made_with["classes"])
    unlisted = [i for i in found if i not in labels]
    summary(output, shown, len(states) - len(todo), unlisted, problems)
    return int(bool(problems))


def told(made: Iterable[tuple[str, dict]], total: int) -> Iterator[tuple[str, dict]]:
    """Tell on stderr how many are made and how long the others take (without tqdm: see predict)."""
    terminal = sys.stderr.isatty()
    started = last = time.monotonic()
    for count, item in enumerate(made, 1):
        yield item
        now = time.monotonic()
        if now - last > (0.5 if terminal else 20):
            left = round((now - started) / count * (total - count))
            text = f"{count} of {total} photos, {left // 60}:{left % 60:02d} minutes left"
            print(text, end="\x1b[K\r" if terminal else "\n", file=sys.stderr, flush=True)
            last = now


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
            what = "HEIC, which is not read; save it as JPEG"
            other = "not a readable image; replace it"
            problems.append(f"{path}: {what if path.suffix.lower() in HEIC else other}")
        elif kind == "other":
            others += [path.name] if path.name != LABELS else []
        else:
            image_id = path.relative_to(base).with_suffix("").as_posix()
            if image_id in found and found[image_id] != path:
                raise UserError(
                    f"{found[image_id]} and {path}: their masks would have one name; rename one"
                )
            found[image_id] = path
    if others:
        print(f"left out, no pictures: {some(others)}", file=sys.stderr)
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what reads the whole photo says what is wrong
            with Image.open(path):
                return "picture"
    except (UnidentifiedImageError, OSError):
        known = path.suffix.lower() in Image.registered_extensions().keys() | HEIC
        return "damaged" if known else "other"
    except Exception:  # likewise
        return "picture"


def read(todo: dict[str, Path], turn: bool) -> Iterator[tuple[str, np.ndarray | str]]:
    """(id, the photo [H, W, 3] uint8) or (id, what is wrong with it)."""
    for image_id, path in todo.items():
        try:
            yield image_id, read_image(path, turn)
        except UserError as error:
            yield image_id, str(error)


# -- what is made


def start(output: Path, made_with: dict, found: dict[str, Path], overwrite: bool) -> dict:
    """The record of the folder of masks; a new one if there is none.

    Raises:
        UserError: if the folder's masks were made with other settings, or are not this program's.
    """
    path = output / "manifest.json"
    new = {"made_with": made_with, "classes": made_with["classes"], "photos": {}}
    record = None
    if path.exists():
        with readable(path, "name a new folder"):
            record = parsed(path.read_text())
            if not all(isinstance(record[key], dict) for key in ("made_with", "photos")):
                raise TypeError("it is no record of masks")
    if record is None:
        there = [mask for i in found if (mask := output / f"{i}.png").exists()]
        if there:
            raise UserError(f"{there[0]}: is there already, and not a mask of this program; name a new folder")  # fmt: skip
    elif record.get("made_with") == made_with:
        return record
    elif not overwrite:
        was = record["made_with"]
        other = [n for n in made_with | was if was.get(n) != made_with.get(n)]
        raise UserError(
            f"{output}: its masks were made with another {other[0].replace('_', ' ')}; name a new "
            "folder, or make them again with --overwrite"
        )
    else:
        keep_edited(output, record.get("photos", {}))
    write_json(path, new)
    return new


def keep_edited(output: Path, entries: Mapping[str, dict]) -> None:
    """Set aside the masks that were edited since they were made, as these are about to be made again."""
    for image_id, entry in entries.items():
        mask = output / f"{image_id}.png"
        if mask.is_file() and entry.get("mask") not in (None, sha256(mask)):
            print(f"note: {mask}: edited since it was made; {renamed(mask)}", file=sys.stderr)


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


def write_entry(
    output: Path,
    image_id: str,
    image: np.ndarray,
    shown: np.ndarray,
    labels: np.ndarray,
    numbers: Mapping[int, str],
) -> dict:
    """Write a photo's mask and overlay; return its entry in the manifest.

    image, shown: the photo, perhaps reduced, and the class numbers over it. labels: [H, W] uint8, those
    of the mask. numbers: the classes that can be in it.
    """
    overlay.write_overlay(output / "overlays" / f"{image_id}.jpg", image, shown, numbers)
    overlay.write_mask(output / f"{image_id}.png", labels)
    counts = np.bincount(labels.ravel(), minlength=256) / labels.size
    return {
        "size": list(labels.shape),
        "mask": sha256(output / f"{image_id}.png"),
        "shares": {
            name: round(100 * float(counts[n]), 2)
            for n, name in {0: "background", **numbers}.items()
        },
    }


def summary(
    output: Path, shown: dict[str, dict], kept: int, unlisted: list[str], problems: list[str]
) -> None:
    """Print what is there and what is not, each with its name."""
    if kept:
        print(f"{kept} finished before, and kept")
    constant = [i for i, entry in shown.items() if entry.get("skipped")]
    if constant:
        print(f"{len(constant)} with a class that has no attention at all: {some(constant)}")
    if unlisted:
        print(f"{len(unlisted)} left out, without a line in the labels: {some(unlisted)}")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(shown)} masks in {output}; look through them in {output / 'index.html'}")
