"""Which photos and masks a segmentor is trained and tested on."""

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from attnseg.errors import UserError


def layout(dataset: str) -> ModuleType:
    """The module of attnseg.datasets for `dataset`: CLASSES, PALETTE, read_split, image_path, ..."""
    try:
        module = importlib.import_module(f"attnseg.datasets.{dataset}")
    except ModuleNotFoundError:
        module = None
    if not all(hasattr(module, name) for name in ("CLASSES", "read_split", "mask_path")):
        raise UserError(f"--dataset {dataset}: no such data set of masks; voc is one")
    return module


@dataclass(frozen=True)
class Pairs:
    """Photos and masks of a split: ids, and as many paths of each; of reliability maps, or none."""

    ids: Sequence[str]
    photos: Sequence[Path]
    masks: Sequence[Path]
    reliabilities: Sequence[Path] = ()

    def check(self, hint: str, masks: bool = True) -> None:
        """Raise UserError unless every file is there; `hint` says what to do without the masks."""
        for paths, what in (
            (self.photos, "check the data set"),
            (self.masks, hint),
            (self.reliabilities, "name the folder of the masks' reliability maps"),
        ):
            if paths is self.masks and not masks:
                continue
            missing = [path for path in paths if not path.is_file()]
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise UserError(f"{missing[0]}{more}: no such file; {what}")

    def fingerprint(self) -> str:
        """Changes with the list, with the files' sizes in bytes, and with the masks' manifest."""
        digest = hashlib.sha256()
        for image_id, photo, mask in zip(self.ids, self.photos, self.masks, strict=True):
            digest.update(f"{image_id} {photo.stat().st_size} {mask.stat().st_size}\n".encode())
        for path in self.reliabilities:
            digest.update(f"{path.stem} {path.stat().st_size}\n".encode())
        manifest = self.masks[0].parent / "manifest.json"
        if manifest.is_file():
            digest.update(manifest.read_bytes())
        return digest.hexdigest()


def split_pairs(
    dataset: str,
    root: Path,
    split: str,
    masks: Path | None = None,
    reliability: Path | None = None,
) -> tuple[list[str], Pairs]:
    """(class names, background first; the split's files).

    masks: a folder instead of the truth. reliability: a folder of their reliability maps.
    """
    reader = layout(dataset)
    ids = reader.read_split(root, split)
    photos = [reader.image_path(root, image_id) for image_id in ids]
    if masks is None:
        paths = [reader.mask_path(root, image_id) for image_id in ids]
    else:
        paths = [Path(masks) / f"{image_id}.png" for image_id in ids]
    sure = [] if reliability is None else [Path(reliability) / f"{i}.png" for i in ids]
    return ["background", *reader.CLASSES], Pairs(ids, photos, paths, sure)
