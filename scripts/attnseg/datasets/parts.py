"""The parts of a data set that is not complete: downloaded, unpacked, built (config/datasets.yaml)."""

import sys
from pathlib import Path

from attnseg.datasets.completeness import part_problem, parts_of
from attnseg.datasets.dataset import Dataset
from attnseg.errors import UserError
from attnseg.io.archives import extract
from attnseg.io.downloads import download
from attnseg.io.space import check_space


def get_parts(
    dataset: Dataset,
    entry: dict,
    root: Path,
    splits: dict[str, int],
    incomplete: list[str],
    archives: Path,
    processes: int,
) -> None:
    """Download, unpack and build the parts that the `incomplete` of `splits` need and that are not there."""
    parts = parts_of(entry, [dataset.split_on_disk(root, split) for split in incomplete])
    lacking = {
        name: part
        for name, part in parts.items()
        if part_problem(root, part) or not part.get("holds")
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
            part.get("bytes", 0) * (1 + (name not in here))
            for name, part in fetched.items()
            if not part.get("optional")
        )
        check_space(root, needed, f"{entry['title']} (archives and content)")
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
    extract(
        archive,
        root / part.get("into", "."),
        strip=part.get("strip", ""),
        only=part.get("only", ()),
    )


def download_from_any(part: dict, archive: Path, lock: Path) -> None:
    """The archive from the first address that has it."""
    checksums = {key: part[key] for key in ("sha256", "md5") if key in part}
    for i, url in enumerate(part["urls"]):
        try:
            download(url, archive, lock=lock, **checksums)
            return
        except UserError as error:
            if i == len(part["urls"]) - 1:
                raise
            print(f"{error}; trying {part['urls'][i + 1]}", file=sys.stderr, flush=True)
