"""Label Studio: tasks.json with predictions, to be imported, and label_config.xml for the project.
https://labelstud.io/guide/predictions, https://labelstud.io/tags/brushlabels

The photos are read from local storage: its folder, the document root, must be the one that holds them
all. Brush masks are packed as by https://github.com/thi-ng/umbrella (rle-pack).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from attnseg.app.exports.masks import Instance, Masks, Photo, relative
from attnseg.app.exports.outlines import along_edges
from attnseg.io.files import write_json

SIZES = (3, 4, 8, 16)  # bits for the length of a run


def write(masks: Masks, output: Path, polygons: bool) -> None:
    parents = [os.path.abspath(photo.parent) for photo, _ in masks.places.values()]
    root = Path(os.path.commonpath(parents))
    tasks = []
    for photo in masks:
        results = [
            result(instance, photo, polygons, f"{photo.id}-{index}")
            for index, instance in enumerate(photo.instances)
        ]
        place = quote(relative(photo, root))
        tasks.append(
            {
                "data": {"image": f"/data/local-files/?d={place}"},
                "meta": dict(masks.about),
                "predictions": [{"model_version": "attnseg", "result": results}],
            }
        )
    write_json(output / "tasks.json", tasks)
    kind = "PolygonLabels" if polygons else "BrushLabels"
    names = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in masks.classes.values())
    (output / "label_config.xml").write_text(
        f'<View>\n  <Image name="image" value="$image"/>\n  <{kind} name="label" toName="image">\n'
        f"{names}  </{kind}>\n</View>\n"
    )
    print(
        "start Label Studio with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root}"
    )


def result(instance: Instance, photo: Photo, polygons: bool, name: str) -> dict:
    height, width = photo.size
    kind = "polygonlabels" if polygons else "brushlabels"
    value: dict = {kind: [instance.name]}
    if polygons:
        outline = along_edges(instance.inside) + [instance.x, instance.y]
        value |= {"points": (100 * outline / [width, height]).tolist(), "closed": True}
    else:
        value |= {"format": "rle", "rle": packed(instance.runs(photo.size, down=False))}
    return {
        "id": name,
        "type": kind,
        "from_name": "label",
        "to_name": "image",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }


def packed(runs: Sequence[int]) -> list[int]:
    """Bytes of a mask as four channels of 0 or 255, from its runs, of which the first is 0.

    32 bits: the number of values; 5: the bits of a value, less one; four times 4: those of a length, for
    each of four kinds, less one; then runs: 1, the kind in 2 bits, the length less one, and the value.
    """
    bits = [f"{4 * sum(runs):032b}", f"{7:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    most = 1 << SIZES[-1]
    for index, length in enumerate(runs):
        value = "1" * 8 if index % 2 else "0" * 8
        for start in range(0, 4 * length, most):
            run = min(most, 4 * length - start)
            kind = next(i for i, size in enumerate(SIZES) if run <= 1 << size)
            bits.append(f"1{kind:02b}{run - 1:0{SIZES[kind]}b}{value}")
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
