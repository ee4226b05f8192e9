"""COCO: labels come from its instances, and semantic masks are made from them.

    <root>/annotations/instances_<split>.json, captions_<split>.json
    <root>/<split>/<id>.jpg
    <root>/masks/<id>.png        made by build_coco_masks: 0 background, 1 to 80
    <root>/masks/<split>.json    the ids and classes of a split, made with them

A split is train2014, or train if only one year is present. An id is the photo's file name without its
suffix (COCO_train2014_000000000009; of 2017, 000000000009). The photos of both years are the same, and
those of 2017 serve annotations of 2014.

Classes are numbered without gaps in their order here, which is that of COCO's category ids: 1 is its 1
(person), 80 its 90 (toothbrush). Files of other categories have `classes` of their own, by name.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from attnseg.datasets.dataset import Dataset
from attnseg.datasets.voc import SYNONYMS as VOC_SYNONYMS
from attnseg.errors import UserError, readable, some
from attnseg.io.files import parsed

# In the order of COCO's category ids.
CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat",
    "traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog",
    "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball", "kite",
    "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange",
    "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "tv", "laptop", "mouse", "remote", "keyboard", "cell phone",
    "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase", "scissors",
    "teddy bear", "hair drier", "toothbrush",
)  # fmt: skip

# CLIP-ES's synonyms, without its misspelling of snowboard.
SYNONYMS = VOC_SYNONYMS | {
    "airplane": "aeroplane",
    "backpack": "backpack, bag",
    "baseball glove": "glove",
    "couch": "sofa",
    "hair drier": "hairdrier, blowdrier",
    "handbag": "handbag, purse",
    "motorcycle": "motorbike",
    "remote": "remote control",
    "spoon": "dessert spoon",
    "tie": "necktie",
    "umbrella": "umbrella, parasol",
}


def full_split(root: Path, split: str) -> str:
    """The name of a split with its year: ``train2014`` for train, if only that year is present."""
    folder = Path(root) / "annotations"
    prefix = "instances_"
    if (folder / f"{prefix}{split}.json").is_file():
        return split
    found = sorted(
        path.stem.removeprefix(prefix) for path in folder.glob(f"{prefix}{split}[0-9]*.json")
    )
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{folder}: split {split!r} is {' or '.join(found)}: choose one of them")
    raise UserError(
        f"{folder}/{prefix}{split}.json: no annotations of split {split!r}: check datasets.coco.root"
    )


def read_annotations(root: Path, split: str) -> dict:
    """Read a split's annotation file."""
    path = Path(root) / "annotations" / f"instances_{full_split(root, split)}.json"
    try:
        content = parsed(path.read_bytes())
        content["images"], content["annotations"]  # noqa: B018
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: unpack COCO's annotations again") from None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a COCO annotation file ({error}): download it again"
        ) from None
    return content


def class_numbers(categories: Sequence[dict], classes: tuple[str, ...] = CLASSES) -> dict[int, int]:
    """The class numbers, which start at 1, by the category ids of an annotation file.

    Categories that are none of `classes` have no number, and are nothing.

    Raises:
        UserError: if the file lacks a class.
    """
    known = {name: number for number, name in enumerate(classes, 1)}
    numbers = {c["id"]: known[c["name"]] for c in categories if c["name"] in known}
    lacking = [name for name, number in known.items() if number not in numbers.values()]
    if lacking:
        raise UserError(
            f"{len(classes)} categories expected, {some(classes, 3)}; the annotations have "
            f"{len(categories)}, without {some(lacking)}: name classes as the file does"
        )
    return numbers


def index(content: dict, classes: tuple[str, ...] = CLASSES) -> list[dict]:
    """List {id, classes} of the images with at least one annotation, sorted by id.

    A class that an image has in crowds alone is none of its classes, as it is not in the mask; an
    image of nothing but crowds stays in the list, without classes.
    """
    numbers = class_numbers(content["categories"], classes)
    present: dict[int, set[int]] = {}
    for annotation in content["annotations"]:
        found = present.setdefault(annotation["image_id"], set())
        if not annotation.get("iscrowd") and annotation["category_id"] in numbers:
            found.add(numbers[annotation["category_id"]])
    items = [
        {
            "id": Path(image["file_name"]).stem,
            "classes": [classes[number - 1] for number in sorted(present[image["id"]])],
        }
        for image in content["images"]
        if image["id"] in present
    ]
    return sorted(items, key=lambda item: item["id"])


@lru_cache(maxsize=4)
def split_items(root: Path, split: str, classes: tuple[str, ...]) -> dict[str, list[str]]:
    """The classes of each image of a split, by id, sorted."""
    made = Path(root) / "masks" / f"{split}.json"  # made with the masks
    # The annotations of train2014 are 450 MB, and the job of every shard would read them.
    if made.is_file():
        with readable(made, "delete it, and build the masks again (build_coco_masks)"):
            items = parsed(made.read_text())["items"]
            return {str(item["id"]): list(item["classes"]) for item in items}
    content = read_annotations(root, split)
    where = Path(root) / "annotations" / f"instances_{split}.json"
    with readable(where, "download COCO's annotations again"):
        items = index(content, classes)
        return {item["id"]: item["classes"] for item in items}


class Coco(Dataset):
    """COCO has one annotation file per split; folders of photos are named after split and year."""

    def list_path(self, root: Path, split: str) -> Path:
        return Path(root) / "annotations" / f"instances_{full_split(root, split)}.json"

    def read_split(self, root: Path, split: str) -> list[str]:
        """Ids of the images with at least one annotation, sorted."""
        return list(split_items(Path(root), full_split(root, split), self.classes))

    def image_path(self, root: Path, image_id: str, split: str | None = None) -> Path:
        if self.photos:
            return super().image_path(root, image_id, split)
        number = image_id.rpartition("_")[2]
        places = [f"{folder}/{number}.jpg" for folder in ("train2017", "val2017")]
        if number != image_id:
            places = [
                f"{image_id.split('_')[1]}/{name}.jpg" for name in (image_id, number)
            ] + places
        paths = [Path(root) / place for place in places]
        return next((path for path in paths if path.is_file()), paths[0])

    def split_on_disk(self, root: Path, split: str) -> str:
        try:
            full = full_split(root, split)
        except UserError:
            return split
        other = f"{full.rstrip('0123456789')}2017"
        return full if (Path(root) / full).is_dir() or not (Path(root) / other).is_dir() else other

    def labels_from_instances(self, root: Path, image_id: str, split: str | None) -> list[str]:
        """The annotated classes; those of crowds alone are not counted."""
        parts = image_id.split("_")
        splits = [parts[1]] if len(parts) == 3 else ["train2017", "val2017"]
        if split:
            splits = [full_split(root, split)]
        for name in splits:
            if (Path(root) / "annotations" / f"instances_{name}.json").is_file():
                classes = split_items(Path(root), name, self.classes).get(image_id)
                if classes is not None:
                    return classes
        raise UserError(f"{root}: image {image_id!r} has no annotation in {' or '.join(splits)}")

    def build(self, root: Path, splits: Mapping[str, int], processes: int) -> None:
        from attnseg.datasets.coco_masks import build_masks
        from attnseg.datasets.completeness import wrong_count

        for split, images in splits.items():
            if wrong := wrong_count(self, root, split, len(self.read_split(root, split)), images):
                raise UserError(wrong)
            build_masks(root, split, dataset=self)


DATASET = Coco(
    name="coco",
    layout="coco",
    classes=CLASSES,
    photos=None,
    masks="masks/{id}.png",
    label_sources=("instances", "mask", "csv"),
    synonyms=SYNONYMS,
    official_box_threshold=0.5,
    captions="annotations/captions_train2014.json",
)
