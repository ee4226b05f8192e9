#!/usr/bin/env python3
"""Render the mini world's drawings from the Noto Color Emoji font (SIL OFL 1.1).

    apt-get install fonts-noto-color-emoji
    python scripts/tools/build_sprites.py --output assets/sprites

Writes atlas.png, atlas.json ({name: [[x, y, width, height], ...]}) and the licence notice.
"""

import argparse
import json
import sys
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
FONT_SIZE = 109  # the only size of the font's bitmaps
SIDE = 80  # the longest side of a sprite, pixels

DRAWINGS = {
    "aeroplane": "✈🛩🛫",
    "bicycle": "🚲",
    "bird": "🐦🦜🦆🦅🕊🐧",
    "boat": "⛵🚤🛶🛥",
    "bottle": "🍾🍼🧴",
    "bus": "🚌🚍🚎",
    "car": "🚗🚙🏎🚕",
    "cat": "🐈🐱",
    "chair": "🪑💺",
    "cow": "🐄🐮",
    "dog": "🐕🐶🐩🦮",
    "horse": "🐎🐴",
    "motorbike": "🏍🛵",
    "person": "🧍🚶🏃💃",
    "person face": "👩👨",
    "pottedplant": "🪴",
    "sheep": "🐑🐏",
    "sofa": "🛋",
    "train": "🚂🚆🚇🚄",
    "tvmonitor": "📺🖥",
    "truck": "🚚🚛",
    "traffic light": "🚦",
    "elephant": "🐘",
    "bear": "🐻",
    "zebra": "🦓",
    "giraffe": "🦒",
    "backpack": "🎒",
    "umbrella": "☂🌂",
    "sports ball": "⚽🏀🎾",
    "kite": "🪁",
    "banana": "🍌",
    "apple": "🍎🍏",
    "hot dog": "🌭",
    "pizza": "🍕",
    "donut": "🍩",
    "cake": "🎂🍰",
    "laptop": "💻",
    "book": "📖📕",
    "clock": "🕰⏰",
    "teddy bear": "🧸",
    "rider": "🚴🚵",
    "tree": "🌳🌲",
    "rock": "🪨",
    "keyboard": "⌨",
    "potted cactus": "🌵",
}

NOTICE = """The drawings in atlas.png are rendered from Noto Color Emoji, copyright Google Inc.,
licensed under the SIL Open Font License, Version 1.1 (https://openfontlicense.org), by

    python scripts/tools/build_sprites.py --output assets/sprites

with Debian's package fonts-noto-color-emoji. The licence's text is in OFL.txt.
"""


def render(character: str, font: ImageFont.FreeTypeFont) -> Image.Image:
    """RGBA drawing of one character, cropped to its ink, its longest side `SIDE` pixels."""
    canvas = Image.new("RGBA", (160, 160), (0, 0, 0, 0))
    ImageDraw.Draw(canvas).text((10, 10), character, font=font, embedded_color=True)
    box = canvas.getbbox()
    if box is None:
        raise ValueError(f"the font has no drawing for {character!r} (U+{ord(character):04X})")
    sprite = canvas.crop(box)
    scale = SIDE / max(sprite.size)
    width, height = (max(1, round(side * scale)) for side in sprite.size)
    return sprite.resize((width, height), Image.Resampling.LANCZOS)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--font", default=FONT, help="path of NotoColorEmoji.ttf")
    parser.add_argument("--output", type=Path, required=True, help="folder of the atlas")
    args = parser.parse_args(argv)
    if not Path(args.font).is_file():
        print(
            f"error: no font at {args.font}: apt-get install fonts-noto-color-emoji",
            file=sys.stderr,
        )
        return 1
    font = ImageFont.truetype(args.font, FONT_SIZE)
    sprites = [(name, render(c, font)) for name, chars in DRAWINGS.items() for c in chars]
    columns = 10
    rows = -(-len(sprites) // columns)
    atlas = Image.new("RGBA", (columns * SIDE, rows * SIDE), (0, 0, 0, 0))
    boxes: dict[str, list[list[int]]] = {}
    for i, (name, sprite) in enumerate(sprites):
        x, y = SIDE * (i % columns), SIDE * (i // columns)
        atlas.paste(sprite, (x, y))
        boxes.setdefault(name, []).append([x, y, *sprite.size])
    args.output.mkdir(parents=True, exist_ok=True)
    atlas.save(args.output / "atlas.png", optimize=True)
    (args.output / "atlas.json").write_text(json.dumps(boxes, indent=1) + "\n")
    (args.output / "NOTICE").write_text(NOTICE)
    print(f"{len(sprites)} drawings of {len(boxes)} names in {args.output / 'atlas.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
