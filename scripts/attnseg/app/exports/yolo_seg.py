"""Ultralytics' YOLO segmentation: images/, labels/<photo>.txt and data.yaml.
https://docs.ultralytics.com/datasets/segment/"""

from pathlib import Path

import yaml

from attnseg.app.exports.masks import Masks
from attnseg.app.exports.outlines import through_centres


def write(masks: Masks, output: Path, polygons: bool) -> None:
    """A line an instance: the class from 0, and its polygon in parts of the photo's sides."""
    first = min(masks.classes)
    for photo in masks:
        height, width = photo.size
        lines = []
        for instance in photo.instances:
            outline = through_centres(instance.inside) + [instance.x, instance.y]
            points = " ".join(f"{value:.7f}" for value in (outline / [width, height]).ravel())
            lines.append(f"{instance.number - first} {points}\n")
        content, suffix = photo.file(("JPEG", "PNG"))
        for folder, end, data in (
            ("images", suffix, content),
            ("labels", ".txt", "".join(lines).encode()),
        ):
            path = output / folder / "train" / f"{photo.id}{end}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    about = "".join(f"# {key}: {text}\n" for key, text in masks.about.items())
    facts = {
        "train": "images/train",
        "val": "images/train",
        "names": {number - first: name for number, name in masks.classes.items()},
    }
    text = yaml.safe_dump(facts, sort_keys=False, allow_unicode=True)
    note = "# val must be there; put photos of your own in its place\n"
    (output / "data.yaml").write_text("# masks of attnseg\n" + about + note + text)
