"""Hugging Face's datasets: a Parquet file with photos, masks and objects, and its card.
https://huggingface.co/docs/datasets: load_dataset(folder), or upload the folder to the hub."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from attnseg.app.exports.masks import Masks
from attnseg.errors import UserError

CARD = """---
task_categories:
- image-segmentation
---

Masks of attnseg: {count} photos. `mask` has class numbers ({numbers}); `objects` are instances, with
boxes (x, y, width, height) and COCO's run lengths, whose size is the mask's.

{about}"""


def write(masks: Masks, output: Path, polygons: bool) -> None:
    try:
        from datasets import ClassLabel, Dataset, Features, Image, Value
    except ImportError:
        raise UserError(
            "--format hf-datasets needs the package datasets: pip install -c envs/requirements.lock "
            "'.[export]'"
        ) from None
    names = list(masks.classes.values())
    place = {number: index for index, number in enumerate(masks.classes)}

    def rows() -> Iterator[dict]:
        for photo in masks:
            content, suffix = photo.file(("JPEG", "PNG"))
            mask = masks.places[photo.id][1]
            yield {
                "id": photo.id,
                "image": {"bytes": content, "path": f"{photo.id}{suffix}"},
                "mask": {"bytes": mask.read_bytes(), "path": f"{photo.id}.png"},
                "objects": [
                    {
                        "category": place[instance.number],
                        "bbox": instance.box,
                        "area": instance.area,
                        "counts": instance.rle(photo.size)["counts"],
                    }
                    for instance in photo.instances
                ],
            }

    one = {
        "category": ClassLabel(names=names),
        "bbox": [Value("int32")],
        "area": Value("int64"),
        "counts": Value("string"),
    }
    features = Features(
        {"id": Value("string"), "image": Image(), "mask": Image(), "objects": [one]}
    )
    data = output / "data" / "train-00000-of-00001.parquet"
    data.parent.mkdir(parents=True)
    with tempfile.TemporaryDirectory(dir=output) as cache:
        made = Dataset.from_generator(rows, features=features, cache_dir=cache)
        made.to_parquet(data)
        del made
    numbers = ", ".join(f"{number}: {name}" for number, name in masks.classes.items())
    about = "".join(f"{key}: {text}\n" for key, text in masks.about.items())
    (output / "README.md").write_text(CARD.format(count=len(masks), numbers=numbers, about=about))
    (output / "classes.json").write_text(json.dumps(masks.classes, indent=1) + "\n")
