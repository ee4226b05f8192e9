#!/usr/bin/env python3
"""Download a data set to its configured folder, check it, and write its manifest.

    python scripts/download_dataset.py --dataset voc --root resources/VOCdevkit/VOC2012 \\
        --splits train=1464 trainaug=10582 val=1449 --output resources/voc.json

Existing files are used. Missing ones are downloaded (with resuming and checksums) and unpacked;
derived ones (VOC's SegmentationClassAug, COCO's semantic masks) are built. Data sets that require an
account are unpacked from archives in downloads/ beside --output; without these, the error says what
to do. Sources, terms and checksums are in config/datasets.yaml.
"""

import argparse
import sys
from pathlib import Path

from attnseg import datasets
from attnseg.datasets import completeness
from attnseg.errors import UserError, run
from attnseg.io import downloads
from attnseg.io.files import sha256, write_json


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, type=datasets.load, help=datasets.HELP)
    parser.add_argument(
        "--root", required=True, type=Path, help="the data set's folder, as in .../VOC2012"
    )
    parser.add_argument(
        "--source",
        default="download",
        choices=["download", "folder"],
        help="`folder`: it must be there already",
    )
    parser.add_argument(
        "--splits",
        required=True,
        nargs="+",
        metavar="NAME=IMAGES",
        help="splits and the number of images each must list",
    )
    parser.add_argument(
        "--without-masks", nargs="+", default=[], metavar="NAME", help="splits without ground truth"
    )
    parser.add_argument("--output", required=True, type=Path, help="the manifest, a JSON file")
    parser.add_argument("--registry", type=Path, default=completeness.REGISTRY)
    parser.add_argument("--processes", type=int, default=1, help="masks built at a time")
    args = parser.parse_args(argv)
    splits = parse_splits(args.splits)
    entry = completeness.entry_of(args.dataset, completeness.read_registry(args.registry))
    without = {*entry.get("splits_without_masks", []), *args.without_masks}
    states = check(args.dataset, args.root, splits, without)
    if args.source == "download" and any(state.problem for state in states.values()):
        archives = args.output.parent / "downloads"
        get_parts(args.dataset, entry, args.root, splits, archives, args.processes)
        states = check(args.dataset, args.root, splits, without)
    unlisted = set()
    if args.source == "folder":  # one's own photos need not fill every split that is configured
        unlisted = {name for name, state in states.items() if state.problem and not state.listed}
        if unlisted == set(states):
            unlisted = set()
    content = manifest(args.dataset, entry, args.root, splits, states, unlisted)
    write_json(args.output, content)
    return 0


def parse_splits(texts: list[str]) -> dict[str, int]:
    splits = {}
    for text in texts:
        name, _, images = text.partition("=")
        if not images.isdigit():
            raise UserError(f"--splits {text}: write it as NAME=IMAGES")
        splits[name] = int(images)
    return splits


def check(dataset: datasets.Dataset, root: Path, splits: dict[str, int], without: set[str]) -> dict:
    """The state of each split on disk. `without`: splits that need no masks."""
    return {
        name: completeness.split_state(dataset, root, name, images, masks=name not in without)
        for name, images in splits.items()
    }


def manifest(
    dataset: datasets.Dataset,
    entry: dict,
    root: Path,
    splits: dict,
    states: dict,
    unlisted: set[str],
) -> dict:
    """The state of each split. Raise a `UserError` for a missing one that others depend on."""
    optional = unlisted | {
        split
        for part in entry.get("parts", {}).values()
        if part.get("optional")
        for split in part.get("splits", [])
    }
    problems = {name: state.problem for name, state in states.items() if state.problem}
    for name, problem in problems.items():
        if name not in optional:
            raise UserError(f"{problem}; {help_for(dataset, entry)}")
        print(f"warning: split {name} is left out: {problem}", file=sys.stderr)
    return {
        "dataset": dataset.name,
        **{key: entry.get(key) for key in ("title", "version", "licence")},
        "root": str(root),
        "splits": {
            name: {"images": images, **split_list(dataset, root, name, states[name].ids)}
            for name, images in splits.items()
            if name not in problems
        },
        "missing": problems,
    }


def split_list(dataset: datasets.Dataset, root: Path, split: str, ids: list[str]) -> dict:
    """The file that lists a split and its hash, or without a file the hash of the ids."""
    path = dataset.list_path(root, split)
    if path is None:
        return {"sha256": completeness.ids_hash(ids)}
    return {"list": str(path), "sha256": sha256(path)}


def help_for(dataset: datasets.Dataset, entry: dict) -> str:
    how = " ".join(entry[key] for key in ("how", "site") if key in entry)
    how = f"{how}; or set" if how else "set"
    return f"{how} datasets.{dataset.name}.root to where it lies complete"


def get_parts(
    dataset: datasets.Dataset,
    entry: dict,
    root: Path,
    splits: dict[str, int],
    archives: Path,
    processes: int,
) -> None:
    """Download, unpack and build the missing parts that `splits` need."""
    parts = completeness.parts_of(entry, list(splits))
    lacking = {
        name: part
        for name, part in parts.items()
        if completeness.part_problem(root, part) or not part.get("holds")
    }
    lacking = {
        name: part for name, part in lacking.items() if "for" not in part or part["for"] in lacking
    }
    fetched = {name: part for name, part in lacking.items() if "urls" in part}
    if fetched:
        print(
            f"{entry['title']}: {entry['licence']} {entry['site']}\n"
            "Downloading it means accepting these terms.",
            file=sys.stderr,
            flush=True,
        )
        # the archives, and about as much again unpacked
        here = {name for name, part in fetched.items() if archive_of(part, archives).exists()}
        needed = sum(
            part.get("bytes", 0) * (1 + (name not in here)) for name, part in fetched.items()
        )
        downloads.check_space(root, needed, f"{entry['title']} (archives and content)")
    for part in lacking.values():
        try:
            if "build" in part:
                dataset.build(root, splits, processes)
            else:
                get_part(part, root, archives)
        except UserError as error:
            if not part.get("optional"):
                raise
            print(f"warning: {part['what']}: {error}", file=sys.stderr)


def archive_of(part: dict, archives: Path) -> Path:
    return archives / (part.get("archive") or part["urls"][0].rpartition("/")[2])


def get_part(part: dict, root: Path, archives: Path) -> None:
    if "urls" not in part and "archive" not in part:
        return  # to be put there by hand: the check that follows says what is missing
    archive = archive_of(part, archives)
    if "urls" in part:
        download_from_any(part, archive, archives.parent / "downloads.lock.json")
    elif not archive.exists():
        return
    print(f"unpacking {archive}", file=sys.stderr, flush=True)
    downloads.extract(
        archive,
        root / part.get("into", "."),
        strip=part.get("strip", ""),
        only=part.get("only", ()),
    )


def download_from_any(part: dict, archive: Path, lock: Path) -> None:
    """Download the archive from the first address that has it."""
    checksums = {key: part[key] for key in ("sha256", "md5") if key in part}
    for i, url in enumerate(part["urls"]):
        try:
            downloads.download(url, archive, lock=lock, **checksums)
            return
        except UserError as error:
            if i == len(part["urls"]) - 1:
                raise
            print(f"{error}; trying {part['urls'][i + 1]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run(main))
