"""ImageNet-S as a foreground-background data set (attn2mask, Evaluation protocol).

    <root>/ImageNetS_categories_im<N>.txt            wnids; class number i is line i, from 1
    <root>/LOC_synset_mapping.txt                    "<wnid> <name>, <synonym>, ..." (ImageNet's)
    <root>/<split>/<wnid>/<name>.JPEG
    <root>/<split>-segmentation/<wnid>/<name>.png    RGB, class R + 256 G; 0 other, 1000 ignored

The image's own class is the foreground, 1; all other pixels are 0. An image id is <wnid>/<name>.
Splits with masks: train-semi and validation. Mini ImageNet-S has the same layout.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attnseg.datasets.dataset import Dataset
from attnseg.errors import UserError, readable

if TYPE_CHECKING:
    import numpy as np

IGNORED_HERE = 1000  # in the official masks


@functools.cache
def wnids(root: Path) -> tuple[str, ...]:
    """Categories, in the order of the official list."""
    lists = sorted(Path(root).glob("ImageNetS_categories_im*.txt"))
    if len(lists) != 1:
        raise UserError(
            f"{root}: {len(lists)} lists named ImageNetS_categories_im<N>.txt: keep only the one of "
            "this version of ImageNet-S"
        )
    with readable(lists[0], "copy it from the archive again"):
        return tuple(lists[0].read_text().split())


def synonyms(root: Path) -> dict[str, tuple[str, ...]]:
    """Names of the categories in the official list, by wnid."""
    path = Path(root) / "LOC_synset_mapping.txt"
    if not path.is_file():
        raise UserError(f"{path}: no such file: copy it from the ImageNet archive")
    names = {}
    with readable(path, "copy it from the ImageNet archive again"):
        lines = path.read_text().splitlines()
    for line in lines:
        wnid, _, words = line.partition(" ")
        names[wnid] = tuple(word.strip() for word in words.split(",") if word.strip())
    missing = [wnid for wnid in wnids(Path(root)) if not names.get(wnid)]
    if missing:
        raise UserError(
            f"{path}: no name for {', '.join(missing[:5])}: copy it from the archive again"
        )
    return {wnid: names[wnid] for wnid in wnids(Path(root))}


class ImageNetS(Dataset):
    """Prompts have ImageNet's classes; masks separate the image's own class from the rest."""

    def number(self, name: str) -> int:
        return 1

    def training_masks(self, split: str) -> None:
        return None

    def read_split(self, root: Path, split: str) -> list[str]:
        """Ids of a split's masks, sorted."""
        return self.found(root, self.masks, split)

    def prompt_names(self, root: Path | None) -> Mapping[str, tuple[str, ...]]:
        if root is None:
            raise UserError(
                f"--source {self.name} needs --root: its folder, which lists the classes"
            )
        return synonyms(root)

    def read_truth(
        self,
        root: Path,
        image_id: str,
        size: tuple[int, int] | None = None,
        split: str | None = None,
    ) -> "np.ndarray":
        import numpy as np

        from attnseg.datasets.images import check_size, read_image

        path = self.mask_path(root, image_id, split)
        numbers = read_image(path).astype(np.int32) @ np.array([1, 256, 0])
        wnid = image_id.split("/")[0]
        if wnid not in wnids(Path(root)):
            raise UserError(
                f"{path}: {wnid} is not in the list of categories: use the list of this version"
            )
        return check_size(own_class_mask(numbers, 1 + wnids(Path(root)).index(wnid)), path, size)


def own_class_mask(numbers: "np.ndarray", own: int) -> "np.ndarray":
    """Reduce class numbers [H, W] to 1 for the own class, 0 for others, 255 if ignored: uint8."""
    mask = (numbers == own).astype("uint8")
    mask[numbers == IGNORED_HERE] = DATASET.ignored
    return mask


def write_official_mask(path: Path, numbers: "np.ndarray") -> None:
    """Write class numbers [H, W] in the official mask format."""
    import numpy as np
    from PIL import Image

    numbers = numbers.astype(np.int64)
    pixels = np.stack([numbers % 256, numbers // 256, np.zeros_like(numbers)], -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


DATASET = ImageNetS(
    name="imagenet_s",
    layout="imagenet_s",
    classes=("foreground",),
    photos="{split}/{id}.JPEG",
    masks="{split}-segmentation/{id}.png",
    label_sources=(),
    prompt="a photo of {} with a background",
    names_below_root=True,
)
