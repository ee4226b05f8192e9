"""Masks and overlays for a person: colours that the colour-blind tell apart, and a legend."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from attnseg.datasets import images
from attnseg.errors import UserError
from attnseg.io.files import write_atomically

# Okabe and Ito's, bright ones first: vermilion, sky blue, yellow, green, purple, orange, blue
FIRST = ("d55e00", "56b4e9", "f0e442", "009e73", "cc79a7", "e69f00", "0072b2")
OPACITY = 0.55  # of a class's colour over the photo


def _colours() -> np.ndarray:
    """[256, 3] uint8: black, the first ones, these lighter and darker, then VOC's."""
    first = np.array([list(bytes.fromhex(text)) for text in FIRST])
    known = np.concatenate([np.zeros((1, 3)), first, (first + 255) / 2, first / 2])
    return np.concatenate([known, images.PALETTE[len(known) :]]).astype(np.uint8)


COLOURS = _colours()


def hexadecimal(number: int) -> str:
    """The colour of a class, as #d55e00."""
    return "#" + bytes(COLOURS[number]).hex()


def write_mask(path: Path, labels: np.ndarray) -> None:
    """A palette PNG of `labels` [H, W] uint8."""
    images.write_mask(path, labels, COLOURS)


def check_name(path: Path) -> None:
    """Raise where no picture can be written under this name."""
    if Image.registered_extensions().get(path.suffix.lower()) not in Image.SAVE:
        raise UserError(f"--overlay {path}: not the name of a picture; name it ....png or ....jpg")


def write_overlay(
    path: Path,
    image: np.ndarray,
    labels: np.ndarray,
    names: Mapping[int, str],
    opacity: float = OPACITY,
) -> None:
    """The photo [H, W, 3] uint8 with the classes' colours half over it, and their names below.

    names: by class number, those of the legend.
    """
    picture = Image.fromarray(overlaid(image, labels, opacity))
    with write_atomically(path) as partial:
        with_legend(picture, names).save(partial)


def overlaid(image: np.ndarray, labels: np.ndarray, opacity: float = OPACITY) -> np.ndarray:
    """The photo with the classes' colours half over it, wholly along their edges: [H, W, 3] uint8."""
    around = np.pad(labels, 1, mode="edge")
    neighbours = (around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:])
    edge = np.any([labels != shifted for shifted in neighbours], 0)[..., None]
    strength = np.where(edge, 1.0, opacity) * (labels[..., None] > 0)
    return ((1 - strength) * image + strength * COLOURS[labels]).round().astype(np.uint8)


def with_legend(picture: Image.Image, names: Mapping[int, str]) -> Image.Image:
    """The picture above a white strip with a square of its colour and its name for each class.

    Where a name is wider than the picture, the strip is as wide as that.
    """
    size = max(10, min(picture.size) // 30)
    font, square, gap, line = ImageFont.load_default(size), size, size // 2, round(1.6 * size)
    if not names:
        return picture
    widths = [square + gap + int(font.getlength(name)) + 1 for name in names.values()]
    width = max(picture.width, *(w + 2 * gap for w in widths))
    places, x, y = [], gap, picture.height + gap
    for entry in widths:
        if x > gap and x + entry + gap > width:
            x, y = gap, y + line
        places.append((x, y))
        x += entry + 2 * gap
    whole = Image.new("RGB", (width, y + line), "white")
    whole.paste(picture, (0, 0))
    draw = ImageDraw.Draw(whole)
    for (number, name), (x, y) in zip(names.items(), places, strict=True):
        draw.rectangle((x, y, x + square - 1, y + square - 1), fill=hexadecimal(number))
        draw.text((x + square + gap, y + square / 2), name, fill="black", font=font, anchor="lm")
    return whole
