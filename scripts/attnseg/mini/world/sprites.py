"""The drawings of which scenes are composed."""

import functools
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

ATLAS = Path(__file__).resolve().parents[4] / "assets" / "sprites"


@functools.cache
def sprites() -> dict[str, list[Image.Image]]:
    """Drawings by name, RGBA, with a longest side of 80 pixels."""
    atlas = Image.open(ATLAS / "atlas.png").convert("RGBA")
    boxes = json.loads((ATLAS / "atlas.json").read_text())
    drawn = {
        name: [atlas.crop((x, y, x + w, y + h)) for x, y, w, h in places]
        for name, places in boxes.items()
    }
    drawn["diningtable"] = [round_table(), square_table()]
    drawn["pottedplant"].append(drawn.pop("potted cactus")[0])
    return drawn


def round_table() -> Image.Image:
    """A round table with a cloth and plates, seen obliquely from above."""
    im = Image.new("RGBA", (80, 62), (0, 0, 0, 0))
    d = ImageDraw.Draw(im)
    d.rectangle((36, 28, 44, 58), fill=(110, 70, 40, 255))
    d.ellipse((24, 52, 56, 61), fill=(95, 60, 35, 255))
    d.ellipse((1, 4, 79, 40), fill=(150, 95, 50, 255))
    d.ellipse((1, 0, 79, 35), fill=(205, 150, 95, 255))
    for x, y in ((14, 12), (44, 5), (47, 19)):
        d.ellipse((x, y, x + 19, y + 10), fill=(245, 245, 245, 255))
        d.ellipse((x + 5, y + 3, x + 14, y + 7), fill=(215, 215, 225, 255))
    return im


def square_table() -> Image.Image:
    """A wooden table on four legs with a red runner."""
    im = Image.new("RGBA", (80, 58), (0, 0, 0, 0))
    d = ImageDraw.Draw(im)
    for x in (4, 70, 16, 58):
        d.rectangle((x, 20, x + 6, 56 if x in (4, 70) else 44), fill=(100, 62, 35, 255))
    d.polygon(((14, 2), (66, 2), (79, 22), (1, 22)), fill=(165, 105, 60, 255))
    d.polygon(((34, 2), (46, 2), (49, 22), (31, 22)), fill=(190, 45, 50, 255))
    d.rectangle((1, 22, 79, 27), fill=(125, 78, 45, 255))
    return im


def jitter(sprite: Image.Image, rng: np.random.Generator, side: float) -> Image.Image:
    """Randomly recolour, rotate and mirror a sprite, its longest side about `side` pixels."""
    scale = side / max(sprite.size)
    size = [max(3, round(s * scale * rng.uniform(0.9, 1.1))) for s in sprite.size]
    im = sprite.resize(size, Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        im = im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    im = im.rotate(rng.uniform(-14, 14), expand=True, resample=Image.Resampling.BILINEAR)
    pixels = np.asarray(im).astype(np.float32)
    pixels[..., :3] = recolour(pixels[..., :3], rng)
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBA")


def recolour(rgb: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rotate the hue by up to 20 degrees and scale the channels: [..., 3] float in [0, 255]."""
    angle = math.radians(rng.uniform(-20, 20))
    c, s = math.cos(angle), math.sin(angle) / math.sqrt(3)
    k = (1 - c) / 3
    turn = np.array(
        [[c + k, k - s, k + s], [k + s, c + k, k - s], [k - s, k + s, c + k]], dtype=np.float32
    )
    return np.clip(rgb @ turn.T * rng.uniform(0.75, 1.2, 3).astype(np.float32), 0, 255)
