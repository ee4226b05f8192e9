#!/usr/bin/env python3
"""Bring Mug19 from plain folders into the layout of docs/mug19.md, and list what does not fit.

    python scripts/tools/convert_mug19.py my_mugs --check
    python scripts/tools/convert_mug19.py my_mugs --output resources/mug19

The folder holds

    subjects/<subject>/*.jpg or *.png
    scenes/<scene>/<view>.jpg or .png
    masks/<scene>/<view>.png          0 background, n instance n; or, one picture an instance,
    masks/<scene>/<view>/<n>.png      0 outside it
    triplets.csv       scene,view,instance,subject,description,splits (several splits with ; between)
    instances.csv      optional: scene,instance,subject, for instances that no triplet asks for
    subjects.csv       optional: subject,class,series (without it class mug, each a series of its own)

What does not fit (a view without a mask, a triplet of an unknown subject, ...) is listed, a line each,
counted and left out. With --check nothing is written, and the exit status is 1 if anything is listed.
"""

import argparse
import csv
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg.datasets.images import PALETTE, check_size, read_image, read_mask, write_mask
from attnseg.datasets.mug19 import Mug19, Triplet, check_triplet, read_mug19
from attnseg.errors import UserError, run
from attnseg.io.files import images_in, safe_name, write_json

COLUMNS = {
    "triplets": ("scene", "view", "instance", "subject", "description", "splits"),
    "instances": ("scene", "instance", "subject"),
    "subjects": ("subject", "class", "series"),
}


@dataclass
class Plain:
    """What fits of a plain folder, as Mug19's index, and what does not, by kind."""

    data: Mug19
    photos: dict[tuple[str, str], Path] = field(default_factory=dict)  # of views
    left_out: list[tuple[str, str]] = field(default_factory=list)  # (kind, what is wrong)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="the plain folders")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--output", type=Path, help="a new folder, as datasets.mug19.root")
    what.add_argument("--check", action="store_true", help="only list what does not fit")
    args = parser.parse_args(argv)
    if args.output and args.output.exists():
        raise UserError(f"{args.output}: is there already: name a new folder")
    plain = read_plain(args.folder)
    for kind, problem in plain.left_out:
        print(f"{kind} left out: {problem}")
    for kind, count in Counter(kind for kind, _ in plain.left_out).items():
        print(f"{count} {kind}{'s' if count > 1 else ''} left out")
    data = plain.data
    if not data.triplets:
        raise UserError(f"{args.folder}: no triplet fits; see the list above")
    if args.output:
        write(plain, args.output)
        data = read_mug19(args.output)
    sizes = ", ".join(f"{name}: {{images: {n}}}" for name, n in data.split_sizes().items() if n)
    print(
        f"{len(data.subjects)} subjects, {len(data.scenes)} scenes, {len(data.views())} views\n"
        f"datasets: {{mug19: {{root: {args.output or '...'}, splits: {{{sizes}}}}}}}"
    )
    return int(args.check and bool(plain.left_out))


def read_plain(folder: Path) -> Plain:
    """What a plain folder holds, checked."""
    told = {row["subject"]: row for row in lines(folder / "subjects.csv", optional=True)}
    plain = Plain(Mug19(folder, {}, {}))
    for place in folders(folder / "subjects"):
        word = told.get(place.name, {})
        entry = {"class": word.get("class") or "mug", "series": word.get("series") or place.name}
        if images_in(place):
            plain.data.subjects[place.name] = entry
        else:
            plain.left_out.append(("subject", f"{place}: no photo"))
    rows = list(lines(folder / "triplets.csv"))
    owners = {
        (row["scene"], int(row["instance"])): row["subject"]
        for row in (*rows, *lines(folder / "instances.csv", optional=True))
        if "variant" not in row.get("splits", "").split(";")
    }
    for place in folders(folder / "scenes"):
        read_scene(plain, place, owners)
    seen: set[tuple] = set()
    for row in rows:
        triplet = triplet_of(row)
        key = (triplet.scene, triplet.view, triplet.variant, triplet.instance)
        try:
            check_triplet(triplet, plain.data, f"{folder / 'triplets.csv'}, line {row['line']}")
            if key in seen:
                raise UserError(
                    f"{folder / 'triplets.csv'}, line {row['line']}: asks a second time"
                )
        except UserError as problem:
            plain.left_out.append(("triplet", str(problem)))
            continue
        seen.add(key)
        plain.data.triplets.append(triplet)
    return plain


def read_scene(plain: Plain, place: Path, owners: dict[tuple[str, int], str]) -> None:
    """Add a scene with those of its views that have a mask, if its instances are known subjects."""
    root, views, count = plain.data.root, [], 0
    for photo in images_in(place):
        try:
            if safe_name(photo.stem, place) in views:
                raise UserError(f"{photo}: there is another photo of this view")
            numbers = read_numbers(root, place.name, photo.stem)
            check_size(
                numbers, root / "masks" / place.name / photo.stem, read_image(photo).shape[:2]
            )
        except UserError as problem:
            plain.left_out.append(("view", str(problem)))
            continue
        count = max(count, int(numbers.max()))
        views.append(photo.stem)
        plain.photos[place.name, photo.stem] = photo
    held = [owners.get((place.name, number), "") for number in range(1, count + 1)]
    unknown = [n for n, subject in enumerate(held, 1) if subject not in plain.data.subjects]
    if not views:
        plain.left_out.append(("scene", f"{place}: no view of it has a mask"))
    elif unknown:
        name = held[unknown[0] - 1]
        why = (
            f"{name!r} is no subject" if name else "no line of triplets.csv or instances.csv has it"
        )
        plain.left_out.append(("scene", f"{place}: instance {unknown[0]}: {why}"))
    else:
        instances = [{"subject": subject} for subject in held]
        plain.data.scenes[place.name] = {"instances": instances, "views": views}


def read_numbers(root: Path, scene: str, view: str) -> np.ndarray:
    """The number of the instance at each pixel of a view, 0 for none: [H, W] uint8."""
    place = root / "masks" / scene / view
    if not place.is_dir():
        return read_mask(place.with_name(f"{view}.png"))
    numbers: np.ndarray | None = None
    for file in images_in(place):
        if not file.stem.isdecimal() or not 0 < int(file.stem) < 256:
            raise UserError(f"{file}: the name must be the number of an instance, 1 to 255")
        with Image.open(file) as image:
            inside = np.asarray(image.convert("L")) > 0
        numbers = np.zeros(inside.shape, np.uint8) if numbers is None else numbers
        numbers[check_size(inside, file, numbers.shape)] = int(file.stem)
    if numbers is None:
        raise UserError(f"{place}: no masks in it")
    return numbers


def triplet_of(row: dict[str, str]) -> Triplet:
    """The triplet of a line."""
    splits = tuple(name.strip() for name in row["splits"].split(";") if name.strip())
    by = "-variant" if "variant" in splits else ""
    return Triplet(
        id=f"{row['scene']}-{row['view']}-{row['instance']}{by}",
        scene=row["scene"],
        view=row["view"],
        instance=int(row["instance"]),
        subject=row["subject"],
        description=row["description"],
        splits=splits,
    )


def lines(path: Path, optional: bool = False) -> Iterator[dict[str, str]]:
    """The lines of a CSV without spaces around values, each with its number as `line`."""
    columns = COLUMNS[path.stem]
    if optional and not path.is_file():
        return
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); its columns are {columns}") from None
    for number, row in enumerate(rows, 2):
        if set(columns) - set(row) or None in row.values():
            raise UserError(f"{path}, line {number}: the columns must be {','.join(columns)}")
        values = {name: row[name].strip() for name in columns} | {"line": str(number)}
        if "instance" in columns and not values["instance"].isdecimal():
            raise UserError(f"{path}, line {number}: instance {values['instance']!r} is no number")
        yield values


def folders(place: Path) -> list[Path]:
    """The folders in a folder, sorted, of names that may be part of a path."""
    if not place.is_dir():
        raise UserError(f"{place}: no such folder; the plain form is in --help")
    found = sorted(path for path in place.iterdir() if path.is_dir() and path.name[0] != ".")
    return [path for path in found if safe_name(path.name, place)]


def write(plain: Plain, output: Path) -> None:
    """Copy what fits into the layout of docs/mug19.md; the index comes last."""
    data = plain.data
    for subject in data.subjects:
        for photo in data.photos(subject):
            copy(photo, output / "subjects" / subject / photo.name)
    for scene, view in data.views():
        photo = plain.photos[scene, view]
        copy(
            photo,
            output / "scenes" / scene / photo.name.replace(photo.suffix, photo.suffix.lower()),
        )
        write_mask(
            output / "masks" / scene / f"{view}.png",
            read_numbers(data.root, scene, view),
            PALETTE,
        )
    write_json(output / "subjects.json", data.subjects)
    write_json(output / "scenes.json", data.scenes)
    write_json(output / "triplets.json", [asdict(triplet) for triplet in data.triplets])


def copy(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, place)


if __name__ == "__main__":
    sys.exit(run(main))
