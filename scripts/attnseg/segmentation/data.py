"""Which photos and masks a segmentor is trained and tested on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attnseg.datasets import Dataset
from attnseg.errors import UserError


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
    dataset: Dataset,
    root: Path,
    split: str,
    masks: Path | None = None,
    reliability: Path | None = None,
) -> tuple[list[str], Pairs]:
    """(what the masks' numbers mean; the split's files).

    masks: a folder instead of the truth. reliability: a folder of their reliability maps.
    """
    ids, photos, paths = dataset.files(root, split, masks=masks is None)
    if masks is not None:
        paths = [Path(masks) / f"{image_id}.png" for image_id in ids]
    sure = [] if reliability is None else [Path(reliability) / f"{i}.png" for i in ids]
    return dataset.class_names, Pairs(ids, photos, paths, sure)


def listed_pairs(
    dataset: Dataset, photos: Path, masks: Path, reliability: Path | None = None
) -> tuple[list[str], Pairs]:
    """(class names of `dataset`; the files that the manifest of the folder `masks` lists).

    Of refine_synthetic: generated images, or inverted photos. Skipped ones are left out.
    `reliability`: the folder of the masks' reliability maps.
    """
    path = Path(masks) / "manifest.json"
    try:
        items = [item for item in json.loads(path.read_text())["items"] if not item["skipped"]]
        ids, names = [item["id"] for item in items], [item["image"] for item in items]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise UserError(
            f"{path}: no list of masks ({problem}); run refine_synthetic first"
        ) from None
    if not ids:
        raise UserError(f"{path}: every image was skipped; check the prompts")
    paths = [Path(masks) / f"{i}.png" for i in ids]
    sure = [] if reliability is None else [Path(reliability) / f"{i}.png" for i in ids]
    return dataset.class_names, Pairs(ids, [Path(photos) / name for name in names], paths, sure)
