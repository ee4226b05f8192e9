"""labelme: a JSON file per photo. https://github.com/wkentaro/labelme"""

import base64
import io
from pathlib import Path

from PIL import Image

from attnseg.app.exports.masks import Instance, Masks, relative
from attnseg.app.exports.outlines import through_centres
from attnseg.io.files import write_json

VERSION = "5.5.0"  # of the form; shapes of the type "mask" came with 5.2


def write(masks: Masks, output: Path, polygons: bool) -> None:
    """<id>.json, each with the photo's path relative to it."""
    for photo in masks:
        path = output / f"{photo.id}.json"
        height, width = photo.size
        write_json(
            path,
            {
                "version": VERSION,
                "flags": {},
                "shapes": [shape(instance, polygons) for instance in photo.instances],
                "imagePath": relative(photo, path.parent),
                "imageData": None,
                "imageHeight": height,
                "imageWidth": width,
                "attnseg": dict(masks.about),
            },
        )


def shape(instance: Instance, polygons: bool) -> dict:
    """A polygon, or a box with the mask inside, whose second point is its last pixel."""
    x, y, width, height = instance.box
    if polygons:
        own: dict = {
            "shape_type": "polygon",
            "points": (through_centres(instance.inside) + [x, y]).round(1).tolist(),
            "mask": None,
        }
    else:
        buffer = io.BytesIO()
        Image.fromarray(instance.inside).convert("L").save(buffer, "PNG")
        own = {
            "shape_type": "mask",
            "points": [[x, y], [x + width - 1, y + height - 1]],
            "mask": base64.b64encode(buffer.getvalue()).decode(),
        }
    return {"label": instance.name, **own, "group_id": None, "description": "", "flags": {}}
