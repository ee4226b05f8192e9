"""What the data sets of config/datasets.yaml must hold, and what of it is on the disk."""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import yaml

from attnseg.errors import UserError

REGISTRY = Path(__file__).parents[3] / "config" / "datasets.yaml"


@dataclass
class SplitState:
    """What of a split is on the disk."""

    listed: int = 0
    photos: int = 0
    masks: int = 0
    problem: str = ""  # "" where it is complete
    first_missing: Path | None = None
    ids: list[str] = field(default_factory=list)


def read_registry(path: Path = REGISTRY) -> dict:
    """name -> its entry."""
    try:
        return yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; run from a clone of the repository or pass --registry"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]})") from None


def layout(name: str) -> ModuleType | None:
    """The module that reads a data set's splits; None where it has none (Mug19)."""
    try:
        module = importlib.import_module(f"attnseg.datasets.{name}")
    except ModuleNotFoundError:
        return None
    return module if hasattr(module, "read_split") else None


def split_state(name: str, root: Path, split: str, images: int, masks: bool = True) -> SplitState:
    """Whether the list of a split has `images` ids, and each a photo and (with `masks`) a mask."""
    module, root = layout(name), Path(root)
    if module is None:
        return _other_layout(name, root, split, images)
    try:
        ids = module.read_split(root, split)
    except UserError as error:
        return SplitState(problem=str(error))
    state = SplitState(listed=len(ids), ids=ids)
    for kind, path_of in (("photos", module.image_path), ("masks", module.mask_path)):
        if kind == "masks" and not masks:
            continue
        missing = [path for path in (path_of(root, i) for i in ids) if not path.is_file()]
        setattr(state, kind, len(ids) - len(missing))
        if missing and not state.problem:
            state.first_missing = missing[0]
            state.problem = f"{missing[0]} and {len(missing) - 1} more {kind} of {split} missing"
    if len(ids) != images:
        state.problem = (
            f"{root}: {split} lists {len(ids)} images, datasets.{name}.splits.{split}.images says "
            f"{images}: correct the number, or get the official list"
        )
    return state


def part_problem(root: Path, part: dict) -> str:
    """What a part lacks; "" where nothing."""
    for pattern, count in part.get("holds", {}).items():
        found = _count(Path(root), pattern)
        if found < count:
            return f"{pattern}: {found:,} of {count:,}"
    return ""


def parts_of(entry: dict, splits: list[str]) -> dict[str, dict]:
    """The parts that some of `splits` need."""
    return {
        name: part
        for name, part in entry["parts"].items()
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


def _other_layout(name: str, root: Path, split: str, images: int) -> SplitState:
    """The state of a split of Mug19, whose images are questions."""
    if name != "mug19":
        return SplitState(problem=f"{name}: no such layout")
    from attnseg.datasets.mug19 import read_mug19

    try:
        data = read_mug19(root)
    except UserError as error:
        return SplitState(problem=str(error))
    ids = [triplet.id for triplet in data.triplets if split in triplet.splits]
    state = SplitState(listed=len(ids), photos=len(ids), masks=len(ids), ids=ids)
    views = dict.fromkeys((t.scene, t.view) for t in data.triplets if split in t.splits)
    wanted = [data.view_path(*view) for view in views]
    wanted += [data.root / "masks" / scene / f"{view}.png" for scene, view in views]
    missing = [path for path in wanted if not path.is_file()]
    if missing:
        state.first_missing = missing[0]
        state.problem = f"{missing[0]} and {len(missing) - 1} more files of {split} missing"
    elif len(ids) != images:
        state.problem = (
            f"{root}: {split} has {len(ids)} triplets, datasets.mug19.splits.{split}.images says "
            f"{images}: correct the number"
        )
    return state
