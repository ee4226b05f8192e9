"""COCO's instances: one JSON file. https://cocodataset.org/#format-data"""

from pathlib import Path

from attnseg.app.exports.masks import Masks, relative
from attnseg.app.exports.outlines import along_edges
from attnseg.io.files import write_json


def write(masks: Masks, output: Path, polygons: bool) -> None:
    """file_name is relative to the file's folder; ids of categories are the numbers in the masks, from
    1 where these start at 0."""
    first = min(masks.classes)
    images: list[dict] = []
    annotations: list[dict] = []
    for image_id, photo in enumerate(masks, 1):
        height, width = photo.size
        name = relative(photo, output.parent)
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
        for instance in photo.instances:
            outline = along_edges(instance.inside) + [instance.x, instance.y] if polygons else None
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": instance.number + (first == 0),
                    "bbox": instance.box,
                    "area": instance.area,
                    "iscrowd": 0,
                    "segmentation": instance.rle(photo.size)
                    if outline is None
                    else [outline.ravel().tolist()],
                }
            )
    categories = [
        {"id": number + (first == 0), "name": name, "supercategory": ""}
        for number, name in masks.classes.items()
    ]
    info = {"description": "masks of attnseg", **masks.about}
    licences = []
    if "licence" in masks.about:
        licences = [{"id": 1, "name": masks.about["licence"], "url": ""}]
        images = [image | {"license": 1} for image in images]
    write_json(
        output,
        {
            "info": info,
            "licenses": licences,
            "images": images,
            "annotations": annotations,
            "categories": categories,
        },
    )
