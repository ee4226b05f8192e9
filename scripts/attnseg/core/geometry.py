"""Resize and pad photos to a model's input, and map results back to the photo's pixels."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

PADDING = (123, 117, 104)  # ImageNet's mean colour, RGB
# (r, n): for an aspect ratio of at most r the long side is 64 n pixels
LONG_SIDES = ((12 / 10, 11), (13 / 9, 12), (14 / 8, 13), (15 / 8, 14), (16 / 7, 15))


@dataclass(frozen=True)
class Fit:
    """A resize-and-pad transform; the padding is at the right and bottom."""

    content: tuple[int, int]  # (height, width) after resizing, in pixels
    padded: tuple[int, int]  # (height, width) of the model's input


def official_fit(height: int, width: int, multiple: int = 64) -> Fit:
    """The official code's sizes: 500x375 becomes 768x576; the aspect ratio is kept."""
    ratio = max(height, width) / min(height, width)
    n = next((n for limit, n in LONG_SIDES if ratio <= limit), 16)
    scale = 64 * n / max(height, width)
    return _padded(max(1, round(height * scale)), max(1, round(width * scale)), multiple)


def own_fit(height: int, width: int, multiple: int) -> Fit:
    """The photo's own size, padded to a multiple."""
    return _padded(height, width, multiple)


def native_fit(height: int, width: int, long_side: int, multiple: int) -> Fit:
    """The long side at the model's training size; the aspect ratio is kept."""
    scale = long_side / max(height, width)
    return _padded(max(1, round(height * scale)), max(1, round(width * scale)), multiple)


def _padded(height: int, width: int, multiple: int) -> Fit:
    padded = (-(-height // multiple) * multiple, -(-width // multiple) * multiple)
    return Fit((height, width), padded)


def model_input(image: np.ndarray, fit: Fit) -> torch.Tensor:
    """Resize and pad a photo: [H, W, 3] uint8 -> [3, *fit.padded] float32 in [-1, 1]."""
    height, width = fit.content
    if image.shape[:2] != fit.content:
        resized = Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)
        image = np.asarray(resized)
    canvas = np.empty((*fit.padded, 3), np.float32)
    canvas[:] = PADDING
    canvas[:height, :width] = image
    return torch.from_numpy(canvas / 127.5 - 1).permute(2, 0, 1)


def to_photo(maps: torch.Tensor, fit: Fit, size: tuple[int, int]) -> torch.Tensor:
    """Crop the padding and resize maps to the photo's pixels, bilinearly: [K, h, w] -> [K, *size].

    `maps` cover the padded input on any grid; `size` is the photo's (height, width).
    """
    if fit.content == fit.padded:
        return F.interpolate(maps[None], size, mode="bilinear", align_corners=False)[0]
    rows, columns = (
        2 * (torch.arange(pixels) + 0.5) / pixels * content / padded - 1
        for pixels, content, padded in zip(size, fit.content, fit.padded, strict=True)
    )
    places = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)  # [*size, (x, y)]
    return F.grid_sample(
        maps[None], places[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def in_photo(grid: tuple[int, ...], fit: Fit) -> torch.Tensor:
    """Mask of the cells whose centre is in the photo, not its padding: [h, w] bool.

    The first row and column always count, so that the mask is never empty.
    """
    rows, columns = (
        ((torch.arange(cells) + 0.5) / cells < content / padded) | (torch.arange(cells) == 0)
        for cells, content, padded in zip(grid, fit.content, fit.padded, strict=True)
    )
    return rows[:, None] & columns[None]


def central_square(image: np.ndarray, size: int) -> torch.Tensor:
    """Central square of an image: [H, W, 3] uint8 -> [3, size, size] float32 in [-1, 1]."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    crop = Image.fromarray(image[top : top + side, left : left + side])
    if side != size:
        crop = crop.resize((size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.asarray(crop, np.float32) / 127.5 - 1).permute(2, 0, 1)
