"""Check data sets on disk against config/datasets.yaml."""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from attnseg.datasets.dataset import Dataset
from attnseg.errors import UserError, readable
from attnseg.io.files import sha256

REGISTRY = Path(__file__).parents[3] / "config" / "datasets.yaml"


@dataclass
class SplitState:
    """Numbers of ids, photos and masks of a split that are on disk."""

    listed: int = 0
    photos: int = 0
    masks: int = 0
    problem: str = ""  # empty if complete
    ids: list[str] = field(default_factory=list)


def read_registry(path: Path = REGISTRY) -> dict:
    """Read the entries of config/datasets.yaml, by name."""
    try:
        with readable(path, "run from a clone of the repository or pass --registry"):
            return dict(yaml.safe_load(Path(path).read_text()))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: invalid YAML ({str(error).splitlines()[0]})") from None


def split_state(
    dataset: Dataset, root: Path, split: str, images: int, masks: bool = True
) -> SplitState:
    """Check that a split has `images` ids, each with a photo and, if `masks`, a mask."""
    try:
        ids, *paths = dataset.files(root, split, masks)
    except UserError as error:
        return SplitState(problem=str(error))
    state = SplitState(listed=len(ids), ids=ids)
    for kind, wanted in zip(("photos", "masks"), paths, strict=True):
        missing = [path for path in wanted if not path.is_file()]
        setattr(state, kind, len(wanted) - len(missing))
        if missing and not state.problem:
            state.problem = f"{missing[0]} and {len(missing) - 1} more {kind} of {split} missing"
    state.problem = wrong_count(dataset, root, split, len(ids), images) or state.problem
    return state


def wrong_count(dataset: Dataset, root: Path, split: str, listed: int, images: int) -> str:
    """What is wrong if a split does not list so many images, "" if it does."""
    if listed == images:
        return ""
    return (
        f"{root}: {dataset.split_on_disk(root, split)} lists {listed} images, "
        f"datasets.{dataset.name}.splits.{split}.images says {images}: correct the number, or get the "
        "official list"
    )


def entry_of(dataset: Dataset, entries: dict) -> dict:
    """The registry's entry of a data set's layout, {} if absent."""
    return entries.get(dataset.layout, {})


def ids_hash(ids: Iterable[str]) -> str:
    """SHA-256 of the sorted ids."""
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()


def part_problem(root: Path, part: dict) -> str:
    """The first file pattern with missing files in a part, "" if it is complete."""
    for pattern, count in part.get("holds", {}).items():
        found = _count(Path(root), pattern)
        if found < count:
            return f"{pattern}: {found:,} of {count:,}"
    return ""


def parts_of(entry: dict, splits: list[str]) -> dict[str, dict]:
    """The parts of an entry that any of `splits` needs."""
    return {
        name: part
        for name, part in entry.get("parts", {}).items()
        if not part.get("splits") or set(part["splits"]) & set(splits)
    }


def _count(root: Path, pattern: str) -> int:
    if "*" in pattern:
        return sum(1 for _ in root.glob(pattern))
    path = root / pattern
    if path.is_dir():
        return sum(1 for file in path.iterdir() if not file.name.startswith("."))
    if path.is_file():
        return len(path.read_text().split()) if path.suffix == ".txt" else 1
    return 0


def manifest(
    dataset: Dataset,
    entry: dict,
    root: Path,
    splits: dict[str, int],
    states: dict[str, SplitState],
    unlisted: set[str],
) -> dict:
    """What is there. A missing split is refused, unless nothing but itself waits for it."""
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


def split_list(dataset: Dataset, root: Path, split: str, ids: list[str]) -> dict:
    """The file that lists a split and its hash; without a file the hash of the ids."""
    path = dataset.list_path(root, split)
    if path is None:
        return {"sha256": ids_hash(ids)}
    return {"list": str(path), "sha256": sha256(path)}


def help_for(dataset: Dataset, entry: dict) -> str:
    how = " ".join(entry[key] for key in ("how", "site") if key in entry)
    how = f"{how}; or set" if how else "set"
    return f"{how} datasets.{dataset.name}.root to where it lies complete"
