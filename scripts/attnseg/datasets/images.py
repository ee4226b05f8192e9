"""Read and write photos and masks; errors name the file."""

from pathlib import Path

import numpy as np
from PIL import Image

from attnseg.datasets.dataset import bit_colours
from attnseg.errors import UserError
from attnseg.io.files import write_atomically

PALETTE = np.array(bit_colours(), np.uint8)  # VOC's


def read_image(path: Path) -> np.ndarray:
    """Read an image: [H, W, 3] uint8 RGB."""
    return np.asarray(_open(path).convert("RGB"))


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read class numbers from a palette or grey PNG: [H, W] uint8. `size`: its expected (H, W)."""
    image = _open(path)
    if image.mode not in ("P", "L"):
        raise UserError(f"{path}: a mask must be a palette or grey PNG, not {image.mode}")
    return check_size(np.asarray(image), path, size)


def check_size(mask: np.ndarray, path: Path, size: tuple[int, int] | None) -> np.ndarray:
    """Return the mask read from `path` if its (H, W) is `size` or that is None."""
    if size is not None and mask.shape != tuple(size):
        raise UserError(
            f"{path}: the mask is {mask.shape[1]}x{mask.shape[0]} pixels and its photo "
            f"{size[1]}x{size[0]}: make both again from one source"
        )
    return mask


def _open(path: Path) -> Image.Image:
    if not Path(path).is_file():
        raise UserError(
            f"{path}: no such file: correct the path, or check the data set with scripts/tools/check_datasets.py"
        )
    try:
        image = Image.open(path)
        image.load()
    except (OSError, SyntaxError, ValueError) as problem:
        raise UserError(f"{path}: not a readable image ({problem}): download it again") from None
    return image


def write_mask(path: Path, mask: np.ndarray, palette: np.ndarray) -> None:
    """Write class numbers as a palette PNG, atomically. `palette`: [256, 3] uint8."""
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette(palette.astype(np.uint8).tobytes())
    with write_atomically(path) as partial:
        image.save(partial, format="PNG")
