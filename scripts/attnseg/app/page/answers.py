"""What the page asks of photos, answered in JSON. Only `look` passes the network.

A photo's numbers (labels, maps) travel as bytes in base64, one per pixel, at the size of its picture.
"""

import base64
import io
import re
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from attnseg.app import overlay
from attnseg.app.options import words_of
from attnseg.app.page.network import Network
from attnseg.app.page.sessions import Photo, Session, Store
from attnseg.core.geometry import to_photo
from attnseg.core.maps import min_max
from attnseg.core.sizes import reduced
from attnseg.datasets.images import read_image
from attnseg.errors import UserError
from attnseg.settings import RefinementJob
from attnseg.text2mask.extract import Sample
from attnseg.text2mask.refine import refined_scores
from attnseg.text2mask.sizes import refinement_for

BYTES = 40 * 2**20  # of a photo's file
PIXELS = 60_000_000  # of a photo
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # none that starts a program
LETTERS = 2000  # of the words for a photo, and of a prompt
SHOWN = 256  # long side in pixels of maps that are sent
MOST = {"noises": 16, "steps": 250, "iterations": 12, "classes": 40}
SLIDERS = {
    "threshold": ("background", "threshold"),
    "power": ("background", "power"),
    "position": ("crf", "bilateral", "sxy"),
    "colour": ("crf", "bilateral", "srgb"),
    "smoothness": ("crf", "gaussian", "sxy"),
}
Answer = dict[str, Any]


# -- photos


def photo_of(name: str, data: bytes) -> Photo:
    """A photo from a file's name and bytes, turned upright.

    Raises:
        UserError: if it is too large, damaged, or no picture.
    """
    name = re.sub(r"[\x00-\x1f\x7f]", "", name.replace("\\", "/").rpartition("/")[2]).strip(". ")
    name = name[-100:] or "photo.png"
    if len(data) > BYTES:
        raise UserError(f"{name} has more than {BYTES >> 20} MB; make it smaller")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            formats = [name for name in FORMATS if name in Image.OPEN]
            with Image.open(io.BytesIO(data), formats=formats) as opened:
                pixels = opened.width * opened.height
    except Exception:  # Pillow's readers of damaged files raise errors of many types
        raise UserError(
            f"{name} is not a picture that can be read; take a JPEG, PNG, WebP, GIF, BMP or TIFF"
        ) from None
    if pixels > PIXELS:
        raise UserError(
            f"{name} has {pixels / 1e6:.0f} million pixels; make it smaller than {PIXELS // 10**6} million"
        )
    image = pixels_of(name, data)
    return Photo(name, data, reduced(image), image.shape[:2])


def pixels_of(name: str, data: bytes) -> np.ndarray:
    """A photo's pixels as `attnseg segment` reads them: [H, W, 3] uint8."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "photo")
        path.write_bytes(data)
        try:
            return read_image(path, turn=True)
        except UserError as error:
            raise UserError(str(error).replace(str(path), name)) from None


def told_photo(number: int, photo: Photo) -> Answer:
    """What the page's list says of a photo."""
    height, width = photo.image.shape[:2]
    return {
        "number": number,
        "name": photo.name,
        "width": width,
        "height": height,
        "of": list(photo.size),
        "classes": photo.classes,
        "asked": photo.asked,
        "sliders": photo.sliders,
        "looked": photo.kept is not None,
        "usual": usual_sliders(photo.image.shape),
        "picture": picture_of(photo.image),
    }


def picture_of(image: np.ndarray) -> str:
    """A picture as an address that a page shows; exact if it is small."""
    buffer = io.BytesIO()
    small = image.shape[0] * image.shape[1] <= 512 * 512
    Image.fromarray(image).save(
        buffer, "PNG" if small else "JPEG", **({} if small else {"quality": 90})
    )
    kind = "png" if small else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def usual_sliders(size: Sequence[int]) -> Answer:
    """What sliders say if nobody has moved them."""
    usual = refinement_for(tuple(size)).dump()
    found: Answer = {"iterations": 2, "crf": True}
    for slider, keys in SLIDERS.items():
        value: Any = usual
        for key in keys:
            value = value[key]
        found[slider] = value
    return found


# -- looking


def look(
    network: Network,
    store: Store,
    session: Session,
    photo: Photo,
    request: Mapping,
    begun: Callable[[int], object],
) -> Answer:
    """Pass the photo through the network and keep its attention; `begun` as of `Network.look`.

    Raises:
        UserError: if the words cannot be looked for.
    """
    classes, synonyms = named(text_in(request, "classes"))
    noises = whole(request, "noises", network.args.noises, 1, MOST["noises"])
    seed = whole(request, "seed", 0, 0, 2**32)
    background = request.get("background")
    if background is not None and not isinstance(background, str):
        raise UserError("the words for the background must be text")
    sample = Sample(photo.stem, photo.image, classes)
    try:
        kept, seconds = network.look(sample, synonyms, background, noises, seed, begun)
    except UserError as error:
        raise UserError(str(error).removeprefix(f"image {photo.stem}: ")) from None
    store.make_room(session, kept.bytes)
    photo.classes, photo.kept, photo.scores = classes, kept, None
    photo.asked = {
        "classes": text_in(request, "classes"), "synonyms": synonyms, "background": background,
        "noises": noises, "seed": seed,
    }  # fmt: skip
    return {
        "classes": classes,
        "seconds": seconds,
        "noises": noises,
        "sentences": len(kept.sentences),
        "passes": network.passes,
        "device": network.backbone.device.type,
    }


def named(text: str) -> tuple[list[str], dict[str, str]]:
    """Classes and synonyms of "dog, sofa=couch"; semicolons, as in labels.csv, part them as well.

    Raises:
        UserError: if there is none, one twice, or too many.
    """
    parts = [part.partition("=") for part in words_of(text.replace(";", ","))]
    pairs = [(name.strip(), synonym.strip()) for name, _, synonym in parts]
    classes = [name for name, _ in pairs]
    if not classes or not all(classes):
        raise UserError("name what is in the photo, as in: dog, sofa")
    if len(set(classes)) != len(classes):
        twice = next(name for name in classes if classes.count(name) > 1)
        raise UserError(f"{twice} is named twice; name each thing once")
    if len(classes) > MOST["classes"]:
        raise UserError(f"{len(classes)} words; name at most {MOST['classes']}")
    return classes, {name: synonym for name, synonym in pairs if synonym}


def refinement_of(photo: Photo, sliders: Mapping) -> tuple[RefinementJob, dict, int]:
    """The refinement that sliders ask for, its keys that differ from the usual, and the propagations.

    Raises:
        UserError: if a value is out of bounds.
    """
    unknown = sliders.keys() - {*SLIDERS, "iterations", "crf"}
    if unknown:
        raise UserError(f"{min(unknown)}: no such slider")
    iterations = whole(sliders, "iterations", 2, 0, MOST["iterations"])
    usual = usual_sliders(photo.image.shape)
    changes: dict[str, Any] = {}
    for slider, keys in SLIDERS.items():
        value = sliders.get(slider, usual[slider])
        if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e4:
            raise UserError(f"{slider}: must be a number")
        if value != usual[slider]:
            at: dict = changes
            for key in keys[:-1]:
                at = at.setdefault(key, {})
            at[keys[-1]] = value
    crf = bool(sliders.get("crf", True))
    try:
        return refinement_for(photo.image.shape, crf, changes), changes, iterations
    except UserError as error:
        raise UserError(str(error).removeprefix("--set.")) from None


def answer(network: Network, photo: Photo, sliders: Mapping) -> Answer:
    """The mask that sliders ask for, from the attention that is kept."""
    kept, start = looked(photo), time.perf_counter()
    if not network.crf:
        sliders = {**sliders, "crf": False}
    refinement, _, iterations = refinement_of(photo, sliders)
    maps = kept.maps(iterations)
    photo.scores = refined_scores(
        photo.image, maps, kept.fit, refinement, lattices=network.lattices
    )
    photo.sliders = dict(sliders)
    labels = photo.scores.argmax(0).astype(np.uint8)
    names = dict(enumerate(photo.classes, 1))
    flat = [number for number in names if maps[number - 1].max() == 0]
    return {
        "labels": in_base64(labels),
        "height": labels.shape[0],
        "width": labels.shape[1],
        "classes": told_classes(labels, names, flat),
        "seconds": time.perf_counter() - start,
        "passes": network.passes,
    }


def told_classes(
    labels: np.ndarray, names: Mapping[int, str], flat: Sequence[int] = ()
) -> list[Answer]:
    """The background and the classes of a mask [h, w] uint8, with where their names fit; `flat` are the
    numbers of those without attention."""
    told: list[Answer] = [
        {"name": "background", "colour": None, "share": float((labels == 0).mean()), "place": None}
    ]
    for number, name in names.items():
        inside = labels == number
        told.append(
            {
                "name": name,
                "colour": overlay.hexadecimal(number),
                "share": float(inside.mean()),
                "place": place_of(inside),
                "flat": number in flat,
            }
        )
    return told


def place_of(inside: np.ndarray) -> list[float] | None:
    """Where a label fits best: x and y, as shares of the picture, of the pixel farthest from the edge
    of a class's mask [h, w] bool (of a large one, of about 256 x 256 of its pixels); None if it is
    empty."""
    step = -(-max(inside.shape) // SHOWN)
    inside = inside[::step, ::step] if inside[::step, ::step].any() else inside
    if not inside.any():
        return None
    far = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(far.argmax(), far.shape)
    return [(x + 0.5) / inside.shape[1], (y + 0.5) / inside.shape[0]]


def looked(photo: Photo) -> Any:
    if photo.kept is None:
        raise UserError("name what is in the photo first, and look")
    return photo.kept


def maps_behind(photo: Photo, number: int, iterations: int) -> Answer:
    """The maps behind a class, from 1: Cross, after each propagation, and each block's Cross."""
    kept, name = looked(photo), class_of(photo, number)
    maps = {"Cross": kept.maps(0)} | {
        f"after {times} propagation{'s' * (times > 1)}": kept.maps(times)
        for times in range(1, max(2, iterations) + 1)
    }
    maps |= {
        f"Cross of block {block}": values
        for block, values in zip(kept.cross_blocks, kept.blocks(), strict=True)
    }
    size = shown_size(photo.image.shape)
    shown = []
    for title, values in maps.items():
        grown = to_photo(values[number - 1 : number], kept.fit, size)[0]
        shown.append({"title": title, "grid": list(values.shape[1:]), **bytes_of(grown)})
    return {"name": name, "maps": shown}


def class_of(photo: Photo, number: int) -> str:
    if not 1 <= number <= len(photo.classes):
        raise UserError("no such class in this photo")
    return photo.classes[number - 1]


def pixel(photo: Photo, y: int, x: int) -> Answer:
    """What a pixel attends to (its row of Self), and its scores in the last answer."""
    kept, (height, width) = looked(photo), photo.image.shape[:2]
    if not (0 <= y < height and 0 <= x < width) or photo.scores is None:
        raise UserError("no such pixel in this photo")
    row = kept.attended(y, x)
    scores = photo.scores[:, y, x].astype(float)
    whole = float(scores.sum()) or 1.0
    grown = to_photo(row[None], kept.fit, shown_size(photo.image.shape))
    return {
        "scores": [
            {"name": name, "score": score, "share": score / whole}
            for name, score in zip(["background", *photo.classes], scores.tolist(), strict=True)
        ],
        "attended": bytes_of(min_max(grown)[0]),
    }


def shown_size(shape: Sequence[int]) -> tuple[int, int]:
    scale = min(1.0, SHOWN / max(shape[:2]))
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def bytes_of(values: torch.Tensor) -> Answer:
    """A map [h, w] in [0, 1] as bytes."""
    scaled = (255 * values.clamp(0, 1)).round().byte().numpy()
    return {"height": scaled.shape[0], "width": scaled.shape[1], "values": in_base64(scaled)}


def in_base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


# -- what a request holds


def text_in(request: Mapping, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise UserError(f"{name}: must be a text")
    if len(value) > LETTERS:
        raise UserError(f"{len(value):,} characters; write at most {LETTERS:,}")
    return value


def whole(request: Mapping, name: str, usual: int, least: int, most: int) -> int:
    value = request.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UserError(f"{name}: must be a whole number from {least} to {most}")
    return value
