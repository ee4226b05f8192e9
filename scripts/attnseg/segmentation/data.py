"""Lists of the photos and masks on which a segmentor is trained and tested."""

import hashlib
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnseg.datasets import Dataset
from attnseg.datasets.images import image_size, read_mask
from attnseg.errors import UserError
from attnseg.io.files import read_sealed

IGNORED = 255


@dataclass(frozen=True)
class Pairs:
    """Photos, masks and optionally reliability maps of a split, as paths in the order of `ids`.

    turned: photos are turned upright by their EXIF orientation.
    """

    ids: Sequence[str]
    photos: Sequence[Path]
    masks: Sequence[Path]
    reliabilities: Sequence[Path] = ()
    turned: bool = False

    def check(self, hint: str, masks: bool = True) -> None:
        """Raise a `UserError` if a file is missing; `hint`: what to do if it is a mask."""
        for paths, what in (
            (self.photos, "check the data set"),
            (self.masks, hint),
            (self.reliabilities, "give the folder of the masks' reliability maps"),
        ):
            if paths is self.masks and not masks:
                continue
            missing = [path for path in paths if not path.is_file()]
            if missing:
                more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
                raise UserError(f"{missing[0]}{more}: no such file; {what}")

    def check_masks(self, names: Sequence[str], threads: int = 1) -> None:
        """Read all masks, since a training on wrong ones ends in a traceback or learns nothing.

        names: of the class numbers, from 0 on.

        Raises:
            UserError: for the first that is not a grey or palette PNG of its photo's size, or has a
                number without a class; and if none has any class but the background.
        """

        def numbers_in(pair: tuple[Path, Path]) -> tuple[Path, np.ndarray]:
            photo, path = pair
            mask = read_mask(path, image_size(photo, self.turned))
            return path, np.bincount(mask.ravel(), minlength=256).nonzero()[0]

        seen = {IGNORED}
        pairs = zip(self.photos, self.masks, strict=True)
        with ThreadPoolExecutor(max(1, threads)) as pool:
            while some := list(itertools.islice(pairs, 1000)):
                for path, numbers in pool.map(numbers_in, some):
                    wrong = [n for n in numbers if n >= len(names) and n != IGNORED]
                    if wrong:
                        raise UserError(
                            f"{path}: class number {wrong[-1]}: there are 0 to {len(names) - 1}, and "
                            f"{IGNORED} is ignored; correct the mask, or set mask_values"
                        )
                    seen.update(numbers.tolist())
        if seen <= {IGNORED, *([0] if names[0] == "background" else [])}:
            raise UserError(
                f"{self.masks[0].parent}: no mask has a class: every pixel is background or ignored"
            )

    def fingerprint(self) -> str:
        """Hash of the ids, the files' sizes and the masks' manifest."""
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
    """The class names of `dataset`, and the files of a split.

    masks: a folder to use instead of the ground truth. reliability: folder of their reliability maps.
    """
    ids, photos, paths = dataset.files(root, split, masks=masks is None)
    if masks is not None:
        paths = [Path(masks) / f"{image_id}.png" for image_id in ids]
    reliabilities = [] if reliability is None else [Path(reliability) / f"{i}.png" for i in ids]
    turned = dataset.exif == "turn"
    return dataset.class_names, Pairs(ids, photos, paths, reliabilities, turned)


def listed_pairs(
    dataset: Dataset, photos: Path, masks: Path, reliability: Path | None = None
) -> tuple[list[str], Pairs]:
    """The class names of `dataset`, and the files listed in the manifest of the folder `masks`.

    The folder is refine_synthetic's, for generated images or inverted photos; skipped ones are left
    out. `reliability`: folder of the masks' reliability maps.
    """
    path = Path(masks) / "manifest.json"
    try:
        items = [
            item
            for item in read_sealed(path, ours=(Path(masks) / "parameters.json").exists())["items"]
            if not item["skipped"]
        ]
        ids = [item["id"] for item in items]
        images = [Path(photos) / item["image"] for item in items]
    except (KeyError, TypeError, AttributeError) as problem:
        raise UserError(
            f"{path}: not a list of masks ({problem}); run refine_synthetic first"
        ) from None
    if not ids:
        raise UserError(f"{path}: every image was skipped; check the prompts")
    paths = [Path(masks) / f"{i}.png" for i in ids]
    reliabilities = [] if reliability is None else [Path(reliability) / f"{i}.png" for i in ids]
    return dataset.class_names, Pairs(ids, images, paths, reliabilities)
