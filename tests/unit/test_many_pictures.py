"""300 generated photos and masks, sound or with one of the faults that people's files have.

Each ends in the right pixels or in one line with its name, in what trains as in what reads a folder:
never in a traceback or a silent skip.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_images import TURNED, bomb

from attnseg.app.folders import pictures, read
from attnseg.datasets.images import read_mask
from attnseg.errors import UserError
from attnseg.segmentation.data import Pairs

COUNT = 300
NAMES = ["background", "dog", "cat"]
SIZES = [(1, 1), (1, 40), (7, 5), (20000, 10), (33, 64), (120, 90)]  # width, height
# photos: mode -> formats without loss
MODES = {
    "1": ("PNG", "TIFF"), "L": ("PNG", "TIFF", "BMP"), "LA": ("PNG",), "P": ("PNG", "GIF"),
    "RGB": ("PNG", "TIFF", "BMP", "WEBP"), "RGBA": ("PNG", "TIFF"), "CMYK": ("TIFF",), "I;16": ("PNG", "TIFF"),
}  # fmt: skip
PHOTO_FAULTS = ("cut", "text", "empty", "bomb")
MASK_FAULTS = ("cut", "absent", "size", "lying", "colours", "16 bits", "number", "two values")
SUFFIXES = (".jpg", ".PNG", ".tif", ".jpeg", ".webp")


@dataclass
class Case:
    photo: Path
    mask: Path
    photo_fault: str | None
    mask_fault: str | None
    pixels: np.ndarray  # as read, turned upright
    labels: np.ndarray


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo_of(
    rng: np.random.Generator, mode: str, size: tuple[int, int]
) -> tuple[Image.Image, np.ndarray]:
    """A random photo and its pixels in RGB, by arithmetic of our own."""
    shape = (size[1], size[0])
    grey = rng.integers(0, 256, shape).astype(np.uint8)
    colour = rng.integers(0, 256, (*shape, 3)).astype(np.uint8)
    alpha = rng.integers(0, 256, shape).astype(np.uint8)
    three = np.repeat(grey[..., None], 3, 2)
    if mode == "1":
        return Image.fromarray(grey > 127), np.repeat(((grey > 127) * 255)[..., None], 3, 2)
    if mode == "L":
        return Image.fromarray(grey), three
    if mode == "P":
        image = Image.fromarray(grey, "P")
        table = rng.integers(0, 256, (256, 3)).astype(np.uint8)
        image.putpalette(table.tobytes())
        return image, table[grey]
    if mode == "RGB":
        return Image.fromarray(colour), colour
    if mode == "I;16":
        wide = rng.integers(0, 65536, shape).astype(np.uint16)
        return Image.fromarray(wide), np.repeat((wide / 257).round()[..., None], 3, 2)
    if mode == "CMYK":
        ink = rng.integers(0, 256, (*shape, 4)).astype(np.float64)
        paper = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
        return Image.fromarray(ink.astype(np.uint8), "CMYK"), paper
    share = alpha[..., None] / 255
    base = three if mode == "LA" else colour
    bands = np.dstack([grey if mode == "LA" else colour, alpha])
    return Image.fromarray(bands, mode), base * share + 128 * (1 - share)


def case(rng: np.random.Generator, number: int, folder: Path) -> Case:
    """A photo and its mask, of which at most one has a fault."""
    mode = str(rng.choice(list(MODES)))
    kind = str(rng.choice(MODES[mode]))
    size = SIZES[rng.integers(len(SIZES))]
    if kind == "WEBP":
        size = (min(size[0], 16000), size[1])
    image, pixels = photo_of(rng, mode, size)
    orientation = int(rng.integers(1, 9)) if kind in ("PNG", "TIFF", "WEBP") else 1
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"exif": exif} if orientation > 1 else {}
    if kind == "WEBP":
        options["lossless"] = True
    content = encoded(image, kind, **options)
    pixels = TURNED[orientation](pixels)
    faulty = rng.integers(3)
    photo_fault = str(rng.choice(PHOTO_FAULTS)) if faulty == 1 else None
    content = {
        "cut": content[: min(len(content) // 2, 60)], "text": b"not a picture", "empty": b"", "bomb": bomb(),
    }.get(photo_fault or "", content)  # fmt: skip
    name = f"photo ({number})" if number % 3 else f"far dir/{number}.x"
    photo = folder / "photos" / f"{name}{rng.choice(SUFFIXES)}"  # whatever it says
    photo.parent.mkdir(parents=True, exist_ok=True)
    photo.write_bytes(content)

    fault = str(rng.choice(MASK_FAULTS)) if faulty == 2 else None
    height, width = pixels.shape[:2]
    if fault == "lying" and height == width:
        fault = "size"
    shape = {"size": (height + 1, width), "lying": (width, height)}.get(
        fault or "", (height, width)
    )
    labels = rng.integers(0, 3, shape).astype(np.uint8)
    labels[0, 0] = {"number": 3, "two values": 200}.get(fault or "", 1)
    if fault is None and number % 5 == 0 and labels.size > 1:
        labels[-1, -1] = 255
    drawn = Image.fromarray(labels, "P" if number % 2 else "L")
    if number % 2:
        drawn.putpalette(rng.integers(0, 256, 768).astype(np.uint8).tobytes())
    if fault == "colours":
        drawn = Image.fromarray(np.repeat(labels[..., None], 3, 2))
    if fault == "16 bits":
        drawn = Image.fromarray(labels.astype(np.uint16))
    content = encoded(drawn, "PNG")
    mask = folder / "masks" / f"{name}.png"
    mask.parent.mkdir(parents=True, exist_ok=True)
    if fault != "absent":
        mask.write_bytes(content[:36] if fault == "cut" else content)
    return Case(photo, mask, photo_fault, fault, pixels, labels)


@pytest.fixture(scope="module")
def cases(tmp_path_factory) -> list[Case]:
    folder, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(3)
    return [case(rng, number, folder) for number in range(COUNT)]


@pytest.mark.filterwarnings("error::UserWarning")  # a line of Python, to a person
def test_a_folder_of_them_is_read_and_each_damaged_one_named(cases, tmp_path):
    folder = next(c.photo for c in cases if c.photo.parent.name == "photos").parent
    (folder / "notes.txt").write_text("mine")
    found, problems = pictures([str(folder)], tmp_path / "masks")
    by_path = {c.photo: c for c in cases}
    ids = {image_id: by_path[path] for image_id, path in found.items()}
    refused = {path for path in by_path for problem in problems if problem.startswith(f"{path}:")}
    read_, lines = 0, len(problems)
    for image_id, result in read(found, turn=True):
        one = ids[image_id]
        if isinstance(result, str):
            assert result.startswith(f"{one.photo}: ") and "\n" not in result
            refused.add(one.photo)
            lines += 1
            continue
        assert one.photo_fault is None
        assert result.shape == one.pixels.shape and result.dtype == np.uint8
        assert np.abs(result - one.pixels.astype(float)).max() <= 1.5, one.photo
        read_ += 1
    assert refused == {c.photo for c in cases if c.photo_fault}
    assert (read_ + lines, lines) == (COUNT, len(refused)) and min(read_, lines) > 60


def test_masks_that_would_not_train_are_one_line_each(cases):
    outcomes = dict.fromkeys((None, *MASK_FAULTS), 0)
    for one in cases:
        if one.photo_fault:
            continue
        pairs = Pairs(["it"], [one.photo], [one.mask], turned=True)
        outcomes[one.mask_fault] += 1
        if one.mask_fault is None:
            pairs.check("make it")
            pairs.check_masks(NAMES)
            assert np.array_equal(read_mask(one.mask, one.pixels.shape[:2]), one.labels)
            continue
        with pytest.raises(UserError) as error:
            pairs.check("make it")
            pairs.check_masks(NAMES)
        assert str(error.value).startswith(str(one.mask)) and "\n" not in str(error.value)
    assert min(outcomes.values()) >= 5, outcomes
