"""Draw backgrounds and mugs.

All sizes are in pixels of the canvas on which scenes are composed, twice the scene's side.
"""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

PALETTES = {
    "grass": ((60, 125, 50), (120, 170, 70)),
    "sea": ((30, 80, 150), (70, 140, 190)),
    "lake": ((60, 120, 160), (120, 180, 205)),
    "river": ((50, 110, 130), (100, 165, 170)),
    "sky": ((140, 185, 235), (225, 238, 250)),
    "road": ((80, 80, 85), (130, 130, 132)),
    "sand": ((195, 170, 120), (235, 215, 170)),
    "rail": ((105, 95, 88), (150, 140, 130)),
    "room": ((170, 145, 125), (220, 205, 185)),
    "floor": ((120, 85, 60), (165, 125, 95)),
    "mountain": ((105, 100, 115), (165, 160, 170)),
    "building": ((150, 110, 95), (190, 160, 140)),
}


def texture(rng: np.random.Generator, kind: str, height: int, width: int) -> np.ndarray:
    """Smooth noise between a kind's two colours, jittered: [height, width, 3] float32."""
    low, high = (np.array(c, np.float32) * rng.uniform(0.85, 1.12, 3) for c in PALETTES[kind])
    noise = np.zeros((height, width), np.float32)
    for cells in (3, 7, 15):
        grid = rng.normal(size=(cells, cells)).astype(np.float32)
        noise += np.asarray(Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC))
    noise = (noise - noise.min()) / (np.ptp(noise) + 1e-6)
    colours = low + (high - low) * noise[..., None]
    return colours + rng.normal(size=(height, width, 1)).astype(np.float32) * 4


def background(rng: np.random.Generator, kind: str, side: int) -> tuple[Image.Image, list[str]]:
    """An RGBA background of a kind, and the other kinds visible on it (``sky``, ``building``, ...)."""
    pixels = texture(rng, kind, side, side)
    seen: list[str] = []
    horizon = 0
    if kind == "room":
        edge = int(side * rng.uniform(0.6, 0.8))
        pixels[edge:] = texture(rng, "floor", side - edge, side)
    elif kind != "sky" and rng.random() < 0.6:
        horizon = int(side * rng.uniform(0.2, 0.4))
        pixels[:horizon] = texture(rng, "sky", horizon, side)
        seen.append("sky")
    im = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGBA")
    if kind == "river":
        river_banks(im, rng, horizon)
        seen.append("grass")
    if kind == "road":
        road_marks(im, rng, horizon)
    if kind == "rail":
        rails(im, rng, horizon)
    if horizon and kind in ("grass", "lake", "sand", "sea") and rng.random() < 0.3:
        mountains(im, rng, horizon)
        seen.append("mountain")
    if horizon and kind in ("road", "rail", "grass") and rng.random() < 0.4:
        buildings(im, rng, horizon)
        seen.append("building")
    return im, seen


def patch(rng: np.random.Generator, im: Image.Image, kind: str, shape: Image.Image) -> None:
    """Fill `shape` (an L mask of the image's size) with a kind's texture."""
    filling = texture(rng, kind, im.height, im.width).clip(0, 255).astype(np.uint8)
    im.paste(Image.fromarray(filling), (0, 0), shape)


def polygon_mask(im: Image.Image, *polygons: Sequence[tuple[float, float]]) -> Image.Image:
    shape = Image.new("L", im.size, 0)
    for points in polygons:
        ImageDraw.Draw(shape).polygon(points, fill=255)
    return shape


def river_banks(im: Image.Image, rng: np.random.Generator, horizon: int) -> None:
    w, h = im.size
    a, b = rng.uniform(0.05, 0.35, 2) * w
    left = [(0, horizon), (a, horizon), (b * 0.8, h), (0, h)]
    c, d = w - rng.uniform(0.05, 0.35, 2) * w
    right = [(w, horizon), (c, horizon), (d, h), (w, h)]
    patch(rng, im, "grass", polygon_mask(im, left, right))


def road_marks(im: Image.Image, rng: np.random.Generator, horizon: int) -> None:
    w, h = im.size
    draw = ImageDraw.Draw(im)
    x = rng.uniform(0.3, 0.7) * w
    y: float = horizon
    while y < h:
        draw.rectangle((x - 2, y, x + 2, y + 0.07 * h), fill=(235, 235, 225, 255))
        y += 0.16 * h


def rails(im: Image.Image, rng: np.random.Generator, horizon: int) -> None:
    """Draw one or two horizontal railway tracks."""
    w, h = im.size
    draw = ImageDraw.Draw(im)
    for centre in rng.uniform(horizon / h + 0.25, 0.92, rng.integers(1, 3)) * h:
        for x in range(int(rng.integers(0, 9)), w, 11):
            draw.rectangle((x, centre - 9, x + 4, centre + 9), fill=(85, 60, 42, 255))
        for y in (centre - 5, centre + 5):
            draw.rectangle((0, y - 1, w, y + 1), fill=(190, 190, 200, 255))


def mountains(im: Image.Image, rng: np.random.Generator, horizon: int) -> None:
    w = im.width
    peaks = []
    for x in rng.uniform(0, w, 2):
        half, top = rng.uniform(0.2, 0.4) * w, horizon * rng.uniform(0.15, 0.5)
        peaks.append([(x - half, horizon), (x, top), (x + half, horizon)])
    patch(rng, im, "mountain", polygon_mask(im, *peaks))


def buildings(
    im: Image.Image, rng: np.random.Generator, horizon: int, palette: str = "building"
) -> None:
    w = im.width
    draw = ImageDraw.Draw(im)
    x = rng.uniform(0, 0.3) * w
    while x < w:
        width, top = rng.uniform(0.12, 0.28) * w, horizon * rng.uniform(0.05, 0.6)
        box = [(x, top), (x + width, top), (x + width, horizon), (x, horizon)]
        patch(rng, im, palette, polygon_mask(im, box))
        for wy in np.arange(top + 4, horizon - 4, 8):
            for wx in np.arange(x + 3, x + width - 4, 8):
                draw.rectangle((wx, wy, wx + 3, wy + 4), fill=(90, 105, 130, 255))
        x += width + rng.uniform(0, 0.2) * w


def mug(colour: tuple, pattern: str, handle: str, content: tuple | None, side: int) -> Image.Image:
    """Draw a mug from slightly above, so that its content is visible: RGBA, `side` pixels high."""
    scale = 4
    s = side * scale
    w, rim = int(s * 0.72), int(s * 0.34)
    im = Image.new("RGBA", (s, s), (0, 0, 0, 0))
    draw = ImageDraw.Draw(im)
    dark = tuple(int(c * 0.6) for c in colour)
    thick = int(s * 0.08)
    grip = (w - int(0.1 * s), int(0.32 * s), int(0.98 * s), int(0.78 * s))
    if handle == "round":
        draw.ellipse(grip, outline=(*dark, 255), width=thick)
    else:
        draw.rectangle(grip, outline=(*dark, 255), width=thick)
    body = Image.new("L", im.size, 0)
    shape = ImageDraw.Draw(body)
    shape.rectangle((0, rim // 2, w, s - rim // 3), fill=255)
    shape.ellipse((0, s - 2 * rim // 3, w, s - 1), fill=255)
    skin = Image.new("RGBA", im.size, (*colour, 255))
    pattern_on(ImageDraw.Draw(skin), pattern, contrast(colour), w, s)
    im.paste(skin, (0, 0), body)
    draw = ImageDraw.Draw(im)
    draw.ellipse((0, 0, w, rim), fill=(*dark, 255))
    inner = int(0.05 * s)
    inside = content if content is not None else tuple(int(c * 0.45) for c in colour)
    draw.ellipse((inner, inner * 2 // 3, w - inner, rim - inner * 2 // 3), fill=(*inside, 255))
    im = im.crop(im.getbbox())
    size = (max(3, round(im.width / scale)), max(3, round(im.height / scale)))
    return im.resize(size, Image.Resampling.BOX)


def contrast(colour: tuple) -> tuple:
    """White on a dark mug, dark blue on a light one."""
    return (250, 250, 245) if sum(colour) < 480 else (40, 50, 110)


def pattern_on(draw: ImageDraw.ImageDraw, pattern: str, ink: tuple, w: int, s: int) -> None:
    ink = (*ink, 255)
    if pattern == "striped":
        for x in np.arange(0.06, 0.72, 0.18) * s:
            draw.rectangle((x, 0, x + 0.08 * s, s), fill=ink)
    elif pattern == "dotted":
        for row, y in enumerate(np.arange(0.42, 0.95, 0.19) * s):
            for x in np.arange(0.03 + 0.1 * (row % 2), 0.72, 0.21) * s:
                draw.ellipse((x, y, x + 0.12 * s, y + 0.12 * s), fill=ink)
    elif pattern == "banded":
        for y in (0.48 * s, 0.74 * s):
            draw.rectangle((0, y, w, y + 0.12 * s), fill=ink)
    elif pattern == "checked":
        cell = 0.18 * s
        for i in range(6):
            for j in range(6):
                if (i + j) % 2:
                    box = (i * cell, j * cell, (i + 1) * cell, (j + 1) * cell)
                    draw.rectangle(box, fill=ink)
    elif pattern == "starred":
        cx, cy, r = w / 2, 0.64 * s, 0.24 * s
        angles = np.pi * (np.arange(10) / 5 - 0.5)
        radii = np.where(np.arange(10) % 2, 0.42 * r, r)
        points = list(zip(cx + radii * np.cos(angles), cy + radii * np.sin(angles), strict=True))
        draw.polygon([(float(x), float(y)) for x, y in points], fill=ink)
