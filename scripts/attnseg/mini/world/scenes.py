"""Compose scenes: an image, its things with exact masks of their visible parts, its background."""

from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw

from attnseg.datasets.cityscapes import CLASSES as STREET_CLASSES
from attnseg.mini.world import draw
from attnseg.mini.world.sprites import jitter, sprites
from attnseg.mini.world.vocabulary import (
    BACKGROUNDS,
    HELD_OUT_MUGS,
    MUG_COLOURS,
    MUG_CONTENTS,
    MUG_HANDLES,
    MUG_PATTERNS,
    TYPICAL,
)

SIDE = 64  # of a scene, in pixels
FINER = 2  # scenes are composed at this multiple of their size


@dataclass
class Thing:
    """One object: class, visible mask [SIDE, SIDE] bool, occluded fraction in [0, 1]."""

    name: str
    mask: np.ndarray
    hidden: float = 0.0
    traits: dict = field(default_factory=dict)


@dataclass
class Scene:
    """A composed scene."""

    image: np.ndarray  # [SIDE, SIDE, 3] uint8
    things: list[Thing]
    behind: list[str]  # visible kinds of background and props

    def classes(self) -> list[str]:
        """Classes of the things, in order, without repeats."""
        return list(dict.fromkeys(thing.name for thing in self.things))

    def labels(self, classes: tuple[str, ...]) -> np.ndarray:
        """Label map [SIDE, SIDE] uint8: 1 + the index in `classes`, 0 elsewhere."""
        labels = np.zeros(self.image.shape[:2], np.uint8)
        for thing in self.things:
            if thing.name in classes:
                labels[thing.mask] = 1 + classes.index(thing.name)
        return labels


class Canvas:
    """An image under composition, and the index of the thing visible at each pixel."""

    def __init__(self, image: Image.Image):
        self.image = image
        self.owner = np.full((image.height, image.width), -1, np.int16)
        self.areas: list[int] = []
        self.things: list[tuple[str, dict]] = []

    def footprint(self, sprite: Image.Image, x: int, y: int) -> np.ndarray:
        """Pixels that `sprite` covers with its corner at (x, y): [H, W] bool."""
        alpha = Image.new("L", self.image.size, 0)
        alpha.paste(sprite.getchannel("A"), (x, y))
        return np.asarray(alpha) > 127

    def hidden_if(self, footprint: np.ndarray) -> float:
        """The largest occluded fraction of any thing if `footprint` were covered."""
        owner = np.where(footprint, -1, self.owner)
        shares = [1 - (owner == i).sum() / area for i, area in enumerate(self.areas)]
        return max(shares, default=0.0)

    def paste(
        self, sprite: Image.Image, x: int, y: int, name: str | None, **traits: object
    ) -> None:
        """Put a thing in front; without a `name` it is a prop and belongs to the background."""
        covered = self.footprint(sprite, x, y)
        layer = Image.new("RGBA", self.image.size, (0, 0, 0, 0))
        layer.paste(sprite, (x, y))
        self.image = Image.alpha_composite(self.image, layer)
        self.owner[covered] = -1
        if name is not None:
            self.owner[covered] = len(self.things)
            self.areas.append(max(1, int(covered.sum())))
            self.things.append((name, traits))

    def scene(self, behind: list[str]) -> Scene:
        small = self.image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
        owner = self.owner[1::FINER, 1::FINER]
        things = []
        for i, (name, traits) in enumerate(self.things):
            mask = owner == i
            if mask.sum() >= 6:
                hidden = 1 - (self.owner == i).sum() / self.areas[i]
                things.append(Thing(name, mask, float(hidden), traits))
        return Scene(np.asarray(small), things, list(dict.fromkeys(behind)))


def place(canvas: Canvas, sprite: Image.Image, rng: np.random.Generator, overlap: bool) -> tuple:
    """A corner for `sprite`, at least 5/6 inside; with `overlap` it occludes 0.12 to 0.5 of a thing."""
    side = canvas.image.width
    w, h = sprite.size
    best, best_cost = (0, 0), np.inf
    for _ in range(8):
        x = int(rng.integers(-w // 6, max(1, side - w * 5 // 6)))
        y = int(rng.integers(-h // 6, max(1, side - h * 5 // 6)))
        hidden = canvas.hidden_if(canvas.footprint(sprite, x, y))
        cost = max(0.12 - hidden, 0) if overlap else max(hidden - 0.08, 0)
        cost += 4 * max(hidden - 0.5, 0)
        if cost < best_cost:
            best, best_cost = (x, y), cost
        if cost == 0:
            break
    return best


def object_scene(
    rng: np.random.Generator, classes: tuple[str, ...], kinds: int | None = None
) -> Scene:
    """Things of one to three classes on a background that is often typical of one of them.

    `classes`: to draw from; `kinds`: number of classes in the scene, by default random.
    """
    count = kinds or int(rng.choice([1, 2, 3], p=[0.35, 0.4, 0.25]))
    chosen = [classes[i] for i in rng.choice(len(classes), count, replace=False)]
    kind = background_for(rng, chosen)
    side = SIDE * FINER
    image, seen = draw.background(rng, kind, side)
    canvas = Canvas(image)
    behind = [kind, *seen]
    behind += add_props(canvas, rng, kind, "tvmonitor" in chosen)
    if count < 3 and rng.random() < 0.15:
        chosen.append(chosen[int(rng.integers(len(chosen)))])
    low, high = {1: (0.45, 0.9), 2: (0.4, 0.72), 3: (0.36, 0.62)}[min(3, len(chosen))]
    for name in chosen:
        face = name == "person" and rng.random() < 0.25
        drawings = sprites()["person face" if face else name]
        drawing = drawings[int(rng.integers(len(drawings)))]
        sprite = jitter(drawing, rng, rng.uniform(low, high) * side)
        x, y = place(canvas, sprite, rng, overlap=rng.random() < 0.7)
        canvas.paste(sprite, x, y, name, clothed=name == "person" and not face)
    return canvas.scene(behind)


def background_for(rng: np.random.Generator, chosen: list[str]) -> str:
    """Draw a kind of background, often typical of one of the chosen classes."""
    for name in sorted(chosen, key=lambda c: -TYPICAL.get(c, ((), 0))[1]):
        kinds, share = TYPICAL.get(name, ((), 0.0))
        if rng.random() < share:
            return kinds[int(rng.integers(len(kinds)))]
    kinds = tuple(BACKGROUNDS)
    return kinds[int(rng.integers(len(kinds)))]


def add_props(canvas: Canvas, rng: np.random.Generator, kind: str, monitor: bool) -> list[str]:
    """Add trees, rocks and keyboards, which captions name but which are not classes."""
    likely = {
        "tree": {"grass": 0.4, "lake": 0.4, "river": 0.4, "rail": 0.3, "road": 0.2},
        "rock": {"sand": 0.4, "sea": 0.3, "grass": 0.15, "river": 0.3, "rail": 0.2},
        "keyboard": {"room": 0.6 if monitor else 0.1},
    }
    side = canvas.image.width
    added = []
    for prop, chances in likely.items():
        if rng.random() < chances.get(kind, 0.0):
            for _ in range(int(rng.integers(1, 3))):
                drawings = sprites()[prop]
                drawing = drawings[int(rng.integers(len(drawings)))]
                sprite = jitter(drawing, rng, rng.uniform(0.2, 0.4) * side)
                x, y = place(canvas, sprite, rng, overlap=False)
                canvas.paste(sprite, x, y, None)
            added.append(prop)
    return added


def training_mugs() -> list[tuple[str, str]]:
    """Pairs of pattern and colour that may occur in training."""
    held_out = {(pattern, colour) for pattern, colour, _ in HELD_OUT_MUGS}
    return [(p, c) for p in MUG_PATTERNS for c in MUG_COLOURS if (p, c) not in held_out]


def mug_scene(rng: np.random.Generator) -> Scene:
    """One to four mugs of training designs, side by side, in a room or on sand."""
    designs = training_mugs()
    count = int(rng.choice([1, 2, 3, 4], p=[0.25, 0.35, 0.25, 0.15]))
    picks = []
    for _ in range(count):
        pattern, colour = designs[int(rng.integers(len(designs)))]
        handle = MUG_HANDLES[int(rng.integers(len(MUG_HANDLES)))]
        content = None if rng.random() < 0.3 else str(rng.choice(list(MUG_CONTENTS)))
        picks.append({"pattern": pattern, "colour": colour, "handle": handle, "content": content})
    return arrange_mugs(rng, picks)


def arrange_mugs(rng: np.random.Generator, picks: list[dict]) -> Scene:
    """Arrange mugs from left to right, front row last, with little overlap."""
    side = SIDE * FINER
    kind = "room" if rng.random() < 0.75 else "sand"
    image, seen = draw.background(rng, kind, side)
    canvas = Canvas(image)
    columns = 1 if len(picks) == 1 else (2 if len(picks) <= 4 else 3)
    rows = -(-len(picks) // columns)
    pitch = side / columns
    for i, pick in enumerate(picks):
        content = MUG_CONTENTS[pick["content"]] if pick["content"] else None
        size = side * {1: rng.uniform(0.45, 0.8), 2: rng.uniform(0.38, 0.48)}.get(columns, 0.32)
        drawing = draw.mug(
            MUG_COLOURS[pick["colour"]], pick["pattern"], pick["handle"], content, 80
        )
        sprite = view(drawing, rng, size)
        row, column = divmod(i, columns)
        cx = pitch * (column + 0.5) + rng.uniform(-0.05, 0.05) * side
        cy = side * ((row + 0.5) / rows + rng.uniform(-0.05, 0.05))
        canvas.paste(sprite, int(cx - sprite.width / 2), int(cy - sprite.height / 2), "mug", **pick)
    return canvas.scene([kind, *seen])


def view(drawing: Image.Image, rng: np.random.Generator, side: float) -> Image.Image:
    """A random view of a mug: size, side of the handle, tilt and light vary, the hue does not."""
    scale = side / max(drawing.size)
    size = [max(3, round(s * scale * rng.uniform(0.9, 1.1))) for s in drawing.size]
    im = drawing.resize(size, Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        im = im.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    im = im.rotate(rng.uniform(-8, 8), expand=True, resample=Image.Resampling.BILINEAR)
    pixels = np.asarray(im).astype(np.float32)
    pixels[..., :3] = np.clip(pixels[..., :3] * rng.uniform(0.85, 1.1), 0, 255)
    return Image.fromarray(pixels.round().astype(np.uint8), "RGBA")


STREET_PALETTES = {
    "ordinary": {
        "road": (95, 95, 100), "sidewalk": (185, 175, 170), "building": (165, 125, 105),
        "wall": (150, 150, 140), "fence": (120, 85, 55), "pole": (60, 60, 65),
        "traffic sign": (240, 210, 50), "vegetation": (70, 140, 60), "terrain": (215, 195, 145),
        "sky": (175, 210, 240),
    },
    # the target domain of LoRA: dusk, and flat shapes with outlines
    "dusk": {
        "road": (62, 48, 78), "sidewalk": (120, 84, 110), "building": (58, 62, 112),
        "wall": (96, 70, 90), "fence": (88, 50, 66), "pole": (24, 20, 36),
        "traffic sign": (230, 120, 60), "vegetation": (34, 72, 76), "terrain": (150, 96, 84),
        "sky": (226, 138, 106),
    },
}  # fmt: skip


def street_scene(rng: np.random.Generator, style: str = "ordinary") -> Scene:
    """A street seen from a car; every pixel has one of `STREET_CLASSES`."""
    side = SIDE * FINER
    palette = STREET_PALETTES[style]
    canvas = Canvas(Image.new("RGBA", (side, side)))

    def fill(name: str, *polygons: list[tuple[float, float]]) -> None:
        shape = draw.polygon_mask(canvas.image, *polygons)
        colour = np.array(palette[name], np.float32) * rng.uniform(0.88, 1.1)
        noise = 0 if style == "dusk" else rng.normal(size=(side, side, 1)) * 6
        pixels = np.broadcast_to(colour, (side, side, 3)) + noise
        layer = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert("RGBA")
        layer.putalpha(shape)
        canvas.paste(layer, 0, 0, name)
        if style == "dusk":
            for points in polygons:
                ImageDraw.Draw(canvas.image).line([*points, points[0]], fill=(16, 12, 24, 255))

    def box(x0: float, y0: float, x1: float, y1: float) -> list[tuple[float, float]]:
        return [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]

    horizon = side * rng.uniform(0.38, 0.52)
    vanish = side * rng.uniform(0.35, 0.65)
    fill("sky", box(0, 0, side, side))
    for x0, x1 in ((0, rng.uniform(0.2, 0.42)), (rng.uniform(0.6, 0.82), 1)):
        if rng.random() < 0.8:
            fill("building", box(x0 * side, rng.uniform(0.05, 0.3) * side, x1 * side, horizon))
    if rng.random() < 0.6:
        x = rng.uniform(0, 0.6) * side
        fill("vegetation", blob(rng, x, horizon, 0.35 * side))
    ground = "terrain" if rng.random() < 0.35 else "sidewalk"
    fill(ground, box(0, horizon, side, side))
    left, right = rng.uniform(-0.3, 0.15) * side, rng.uniform(0.85, 1.3) * side
    fill("road", [(vanish - 4, horizon), (vanish + 4, horizon), (right, side), (left, side)])
    for name, chance in (("wall", 0.2), ("fence", 0.25)):
        if rng.random() < chance:
            x = rng.uniform(0, 0.6) * side
            fill(name, box(x, horizon - 0.1 * side, x + 0.35 * side, horizon + 3))
    moving = ("car", "car", "person", "bus", "truck", "train", "motorcycle", "bicycle", "rider")
    for _ in range(int(rng.integers(1, 5))):
        name = moving[int(rng.integers(len(moving)))]
        drawings = sprites()[{"motorcycle": "motorbike"}.get(name, name)]
        drawing = drawings[int(rng.integers(len(drawings)))]
        small = name in ("person", "rider", "bicycle", "motorcycle")
        sprite = jitter(drawing, rng, side * rng.uniform(0.22, 0.4 if small else 0.5))
        if style == "dusk":
            sprite = dusk(sprite)
        x = int(rng.uniform(-0.1, 0.8) * side)
        y = int(horizon + rng.uniform(0.0, 0.45) * side - sprite.height * 0.7)
        canvas.paste(sprite, x, y, name)
    if rng.random() < 0.6:
        x, top = rng.uniform(0.05, 0.9) * side, rng.uniform(0.1, 0.3) * side
        fill("pole", box(x, top, x + 3, horizon + 0.15 * side))
        if rng.random() < 0.6:
            light = jitter(sprites()["traffic light"][0], rng, 0.22 * side)
            canvas.paste(
                dusk(light) if style == "dusk" else light, int(x - 5), int(top), "traffic light"
            )
        else:
            fill("traffic sign", box(x - 8, top, x + 11, top + 15))
    return canvas.scene([])


def blob(rng: np.random.Generator, x: float, ground: float, width: float) -> list:
    """The outline of a bush: bumps above the ground line."""
    angles = np.linspace(0, np.pi, 14)
    radii = width * (0.45 + 0.12 * rng.random(14))
    points = zip(
        x + width / 2 + radii * np.cos(angles), ground - radii * np.sin(angles), strict=True
    )
    return [(float(px), float(py)) for px, py in points]


def dusk(sprite: Image.Image) -> Image.Image:
    """A sprite in the dusk style: few tones, shifted towards purple."""
    pixels = np.asarray(sprite).astype(np.float32)
    tones = np.round(pixels[..., :3] / 85) * 85
    pixels[..., :3] = np.clip(tones * (0.5, 0.4, 0.6) + (30, 15, 45), 0, 255)
    return Image.fromarray(pixels.astype(np.uint8), "RGBA")


def street_labels(scene: Scene) -> np.ndarray:
    """Train ids 0 to 18 of a street scene: [SIDE, SIDE] uint8."""
    return scene.labels(STREET_CLASSES) - 1
