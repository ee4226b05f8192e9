"""Read and write photos and masks; errors name the file."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from attnseg.datasets.dataset import bit_colours
from attnseg.errors import UserError
from attnseg.io.files import write_atomically

PALETTE = np.array(bit_colours(), np.uint8)  # VOC's
ORIENTATION = 0x0112  # EXIF
SIDEWAYS = (5, 6, 7, 8)
# what undoes an orientation: Pillow turns a TIFF, and no other photo, while it is loaded
UNDONE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip
GREY = (128, 128, 128, 255)  # behind transparent pixels


def read_image(path: Path, turn: bool = False) -> np.ndarray:
    """Read an image: [H, W, 3] uint8 RGB.

    Whatever Pillow reads: 16 bits per channel are scaled to 8, transparency is laid over grey, grey,
    palettes and CMYK become RGB, and of an animation the first frame is read.

    Args:
        turn: turn the photo upright by its EXIF orientation, as viewers show it. A data set's photos
            stay as they are stored, as their masks are.

    Raises:
        UserError: if the file is missing, damaged, too large or no image; the message names it.
    """
    image = _open(path, turn)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey = np.asarray(image, np.float64)
        grey = grey * 255 if image.mode == "F" else grey / 257  # [0, 1]; [0, 65535]
        grey = np.nan_to_num(grey).clip(0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "LAB":  # Pillow's conversion takes its numbers for RGB
        raise UserError(f"{path}: LAB colours are not read; save it as RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, GREY), image)
    return np.asarray(image.convert("RGB"))


def image_size(path: Path, turn: bool = False) -> tuple[int, int]:
    """(height, width) of an image that `read_image` would read, from its header."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                return size_in_header(image, turn)
        except Exception:  # as in _open
            return read_image(path, turn).shape[:2]  # which says what is wrong


def size_in_header(image: Image.Image, turn: bool) -> tuple[int, int]:
    """(height, width) that an opened photo will have once it is read."""
    width, height = image.size
    turned = image.format == "TIFF"  # its size says so at once
    swapped = image.getexif().get(ORIENTATION, 1) in SIDEWAYS and turn != turned
    return (width, height) if swapped else (height, width)


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


def _open(path: Path, turn: bool = False) -> Image.Image:
    if not Path(path).is_file():
        raise UserError(
            f"{path}: no such file: correct the path, or check the data set with scripts/tools/check_datasets.py"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of half the limit, and of harmless faults in EXIF
            image = Image.open(path)
            if image.format != "TIFF":
                image.load()
                return ImageOps.exif_transpose(image) if turn else image
            orientation = image.getexif().get(ORIENTATION, 1)
            image.filename = ""  # else Pillow maps the file, in the size of the turned photo: noise
            image.load()
            undone = None if turn else UNDONE.get(orientation)
            return image if undone is None else image.transpose(undone)
    except Image.DecompressionBombError:
        raise UserError(f"{path}: more than 178 million pixels: make it smaller") from None
    except MemoryError:
        raise UserError(f"{path}: does not fit in memory: make it smaller") from None
    except Exception as problem:  # Pillow's readers of damaged files raise errors of many types
        reason = str(problem).split("\n")[0].replace(str(path), "it") or type(problem).__name__
        raise UserError(f"{path}: not a readable image ({reason}): replace it") from None


def write_mask(path: Path, mask: np.ndarray, palette: np.ndarray) -> None:
    """Write class numbers as a palette PNG, atomically. `palette`: [256, 3] uint8."""
    image = Image.fromarray(mask.astype(np.uint8), "P")
    image.putpalette(palette.astype(np.uint8).tobytes())
    with write_atomically(path) as partial:
        image.save(partial, format="PNG")
