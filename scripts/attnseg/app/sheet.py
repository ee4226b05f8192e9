"""A contact sheet: one page with a small picture of every mask, which opens the large one."""

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from attnseg.app.overlay import hexadecimal, with_legend
from attnseg.io.files import write_atomically

SIDE = 240  # pixels
STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif }
body { margin: 1rem }
main { display: grid; gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)) }
figure { margin: 0 } img { width: 100%; height: 10rem; object-fit: contain; background: #8884 }
figcaption { font-size: .8rem; overflow-wrap: anywhere }
.key { display: inline-block; width: .8em; height: .8em; border: 1px solid; margin: 0 .3em 0 1em }
"""


def write(path: Path, photos: dict[str, dict], classes: Sequence[str]) -> None:
    """Write the page at `path`, whose folder has overlays/<id>.jpg.

    photos: manifest entries by id. classes: their names, numbered from 1.
    """
    keys = "".join(
        f'<span class="key" style="background:{hexadecimal(number)}"></span>{escape(name)}'
        for number, name in enumerate(classes, 1)
    )
    with write_atomically(path) as partial, open(partial, "w", encoding="utf-8") as page:
        page.write(
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width">'
            f"<title>{len(photos)} masks</title><style>{STYLE}</style>\n"
            f"<h1>{len(photos)} masks</h1><p>{keys}</p>\n<main>\n"
        )
        for image_id, entry in photos.items():
            page.write(_figure(path.parent, image_id, entry))
        page.write("</main></html>\n")


def _figure(folder: Path, image_id: str, entry: dict) -> str:
    found = {n: share for n, share in entry["shares"].items() if n != "background"}
    shares = ", ".join(f"{escape(name)} {share:.1f} %" for name, share in found.items())
    large = f"overlays/{image_id}.jpg"
    return (
        f'<figure><a href="{quote(large)}" target="_blank">'
        f'<img loading="lazy" alt="{escape(image_id)}" src="{_small(folder / large)}"></a>'
        f"<figcaption>{escape(image_id)}<br>{shares or 'background alone'}</figcaption></figure>\n"
    )


def draw(
    path: Path,
    folder: Path,
    ids: Sequence[str],
    names: Mapping[int, str],
    about: str,
    columns: int = 4,
) -> None:
    """Write some of the overlays of a folder of masks as one PNG, row by row.

    names: by class number, those of the legend. about: the file's description, which the report prints.
    """
    size = SIDE + 8
    rows = -(-len(ids) // columns)
    whole = Image.new("RGB", (size * min(columns, len(ids)), size * rows), "white")
    for place, image_id in enumerate(ids):
        small = _thumbnail(folder / "overlays" / f"{image_id}.jpg")
        left, top = size * (place % columns), size * (place // columns)
        whole.paste(small, (left + (size - small.width) // 2, top + (size - small.height) // 2))
    words = PngInfo()
    words.add_itxt("Description", about)
    with write_atomically(path) as partial:
        with_legend(whole, names).save(partial, format="PNG", pnginfo=words)


def _thumbnail(path: Path) -> Image.Image:
    """The picture, at most 240 pixels wide and high."""
    with Image.open(path) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        image.thumbnail((SIDE, SIDE))
        return image.convert("RGB")


def _small(path: Path) -> str:
    """The picture, at most 240 pixels wide and high, as a data address."""
    buffer = io.BytesIO()
    _thumbnail(path).save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
