"""`attnseg export` of masks: what other tools read is what the masks say.

Official readers where they are installed (pycocotools always; datasets, labelme, supervision and Label
Studio's SDK if present), and decoders typed from the formats' documents.
"""

import base64
import io
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy.ndimage import gaussian_filter, label

from attnseg.app import command
from attnseg.app.exports.masks import instances
from attnseg.errors import run

CLASSES = ["dog", "my cat", "sofa"]
COUNT = 200
TURNED = "p007"  # stored on its side


def random_mask(rng: np.random.Generator) -> np.ndarray:
    """Blobs of three classes with holes, specks and thin parts: [H, W] uint8."""
    height, width = rng.integers(24, 72, 2)
    noise = rng.normal(size=(4, height, width))
    smooth = [gaussian_filter(layer, rng.uniform(0.6, 5)) for layer in noise]
    scores = [layer / layer.std() for layer in smooth]
    return np.argmax(scores, 0).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Masks as `attnseg segment` leaves them, of 200 photos with spaces in their paths."""
    root, rng = tmp_path_factory.mktemp("export"), np.random.default_rng(0)
    photos = {}
    for i in range(COUNT):
        image_id = f"p{i:03d}" if i % 50 else f"sub dir/p{i:03d}"
        mask = random_mask(rng)
        path = root / "my photos" / f"{image_id}{('.png', '.jpg', '.webp')[i % 3]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels, exif = rng.integers(0, 256, (*mask.shape, 3), np.uint8), Image.Exif()
        if image_id == TURNED:
            pixels, exif[0x0112] = np.rot90(pixels), 6  # to be turned clockwise
        Image.fromarray(pixels).save(path, exif=exif)
        (root / "masks" / image_id).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{image_id}.png")
        photos[image_id] = {"photo": str(path)}
    record = {"made_with": {"exif": "turn"}, "classes": CLASSES, "photos": photos}
    (root / "masks" / "manifest.json").write_text(json.dumps(record))
    return root / "masks"


@pytest.fixture(scope="module")
def truth(folder) -> dict[str, np.ndarray]:
    ids = json.loads((folder / "manifest.json").read_text())["photos"]
    return {i: np.asarray(Image.open(folder / f"{i}.png")) for i in ids}


def export(folder: Path, kind: str, output: Path, *words: object) -> int:
    words = ("export", folder, "--format", kind, "--output", output, *words)
    return run(lambda: command.main(list(map(str, words))))


def iou(one: np.ndarray, two: np.ndarray) -> float:
    return (one & two).sum() / max(1, (one | two).sum())


def check(found: np.ndarray, expected: np.ndarray, least: float) -> None:
    """Each class's pixels."""
    for number in np.unique(expected)[1:]:
        assert iou(found == number, expected == number) >= least


# -- COCO


@pytest.mark.parametrize("words", [[], ["--polygons"]])
def test_pycocotools_reads_all_pixels(folder, truth, tmp_path, words, capsys):
    assert export(folder, "coco", tmp_path / "out.json", "--licence", "CC BY 4.0", *words) == 0
    said = capsys.readouterr().out
    assert "1 photos are stored turned" in said and "upright" in said
    coco = COCO(str(tmp_path / "out.json"))
    assert coco.dataset["info"]["instances"].startswith("connected parts of a class")
    assert coco.dataset["licenses"][0]["name"] == "CC BY 4.0"
    assert {c["id"]: c["name"] for c in coco.loadCats(coco.getCatIds())} == dict(
        enumerate(CLASSES, 1)
    )
    stored = [Path(image["file_name"]) for image in coco.loadImgs(coco.getImgIds())]
    assert len(stored) == COUNT and not any(path.is_absolute() for path in stored)
    for image in coco.loadImgs(coco.getImgIds()):
        path = (tmp_path / image["file_name"]).resolve()
        expected = truth[path.relative_to(folder.parent / "my photos").with_suffix("").as_posix()]
        assert (image["height"], image["width"]) == expected.shape
        found = np.zeros_like(expected)
        by_class = dict.fromkeys(range(1, 4), 0)
        for entry in coco.loadAnns(coco.getAnnIds(image["id"])):
            inside = coco.annToMask(entry)
            assert (isinstance(entry["segmentation"], dict)) == (not words)
            assert inside.sum() == entry["area"]
            rows, columns = np.nonzero(inside)
            assert entry["bbox"][:2] == [columns.min(), rows.min()]
            assert entry["bbox"][2:] == [np.ptp(columns) + 1, np.ptp(rows) + 1]
            assert label(inside, np.ones((3, 3)))[1] == 1, "one connected part"
            found[inside > 0] = entry["category_id"]
            by_class[entry["category_id"]] += 1
        check(found, expected, 1.0)
        for number, count in by_class.items():
            assert count == label(expected == number, np.ones((3, 3)))[1]


def test_run_lengths_are_those_of_pycocotools():
    rng = np.random.default_rng(1)
    for labels in [random_mask(rng) for _ in range(30)] + [np.ones((5, 7), np.uint8)]:
        for instance in instances(labels, dict(enumerate(CLASSES, 1))):
            whole = np.zeros(labels.shape, np.uint8)
            x, y, width, height = instance.box
            whole[y : y + height, x : x + width] = instance.inside
            coded = coco_mask.encode(np.asfortranarray(whole))
            assert instance.rle(labels.shape)["counts"].encode() == coded["counts"]


def test_small_parts_are_left_out_if_asked(folder, truth, tmp_path):
    assert export(folder, "coco", tmp_path / "out.json", "--smallest", "30") == 0
    content = json.loads((tmp_path / "out.json").read_text())
    expected = 0
    for mask in truth.values():
        for number in (1, 2, 3):
            parts, _ = label(mask == number, np.ones((3, 3)))
            expected += (np.bincount(parts.ravel())[1:] >= 30).sum()
    assert len(content["annotations"]) == expected > COUNT
    assert content["info"]["instances"].endswith("of at least 30 pixels")


# -- Pascal VOC


def test_voc_holds_classes_objects_boxes_and_photos(folder, truth, tmp_path):
    assert export(folder, "voc", tmp_path / "voc") == 0
    ids = (tmp_path / "voc/ImageSets/Segmentation/train.txt").read_text().splitlines()
    assert ids == sorted(truth)
    for image_id in ids:
        where = {f: tmp_path / "voc" / f / f"{image_id}" for f in ("SegmentationClass", "SegmentationObject", "Annotations", "JPEGImages")}  # fmt: skip
        labels, objects = (
            np.asarray(Image.open(f"{where[f]}.png"))
            for f in ("SegmentationClass", "SegmentationObject")
        )
        assert np.array_equal(labels, truth[image_id])
        assert np.array_equal(objects > 0, labels > 0)
        photo = Image.open(f"{where['JPEGImages']}.jpg")
        assert photo.format == "JPEG" and photo.size == labels.shape[::-1]
        entries = ElementTree.parse(f"{where['Annotations']}.xml").getroot().findall("object")
        assert len(entries) == objects.max()
        for number, entry in enumerate(entries, 1):
            rows, columns = np.nonzero(objects == number)
            box = [int(entry.find("bndbox").find(k).text) for k in ("xmin", "ymin", "xmax", "ymax")]
            assert box == [columns.min() + 1, rows.min() + 1, columns.max() + 1, rows.max() + 1]
            (value,) = np.unique(labels[objects == number])
            assert CLASSES[value - 1] == entry.find("name").text


# -- YOLO


def test_yolo_s_polygons_fill_the_masks(folder, truth, tmp_path):
    """Ultralytics multiplies by the sides, cuts off fractions and fills with OpenCV (polygon2mask)."""
    assert export(folder, "yolo-seg", tmp_path / "yolo") == 0
    about = yaml.safe_load((tmp_path / "yolo/data.yaml").read_text())
    assert about["names"] == dict(enumerate(CLASSES))
    for image_id, expected in truth.items():
        (photo,) = (tmp_path / "yolo/images/train").glob(f"{image_id}.*")
        size = Image.open(photo).size
        assert size == expected.shape[::-1]
        found = np.zeros_like(expected)
        for line in (tmp_path / f"yolo/labels/train/{image_id}.txt").read_text().splitlines():
            number, *values = line.split()
            assert len(values) >= 6 and all(0 <= float(value) <= 1 for value in values)
            polygon = np.array(values, np.float32).reshape(-1, 2) * np.array(size, np.float32)
            cv2.fillPoly(found, [polygon.astype(np.int32)], int(number) + 1)
        check(found, expected, 0.99)


def test_supervision_reads_yolo_s_folder(folder, truth, tmp_path):
    supervision = pytest.importorskip("supervision", reason="an official reader, not in the lock")
    assert export(folder, "yolo-seg", tmp_path / "yolo") == 0
    images, labels = (tmp_path / "yolo" / name / "train" for name in ("images", "labels"))
    read = supervision.DetectionDataset.from_yolo(
        str(images), str(labels), str(tmp_path / "yolo/data.yaml"), force_masks=True
    )
    assert read.classes == CLASSES and len(read) > 100
    for path, _, found in read:
        expected = truth[Path(path).stem]
        whole = np.zeros_like(expected)
        for mask, number in zip(found.mask, found.class_id, strict=True):
            whole[mask] = number + 1
        check(whole, expected, 0.99)


# -- labelme


def labelme_masks(path: Path) -> np.ndarray:
    """Read as labelme's JSON says: a mask is a PNG within two points, a polygon is drawn by Pillow."""
    content = json.loads(path.read_text())
    found = np.zeros((content["imageHeight"], content["imageWidth"]), np.uint8)
    for shape in content["shapes"]:
        number = CLASSES.index(shape["label"]) + 1
        if shape["shape_type"] == "mask":
            (left, top), (right, bottom) = shape["points"]
            inside = np.array(Image.open(io.BytesIO(base64.b64decode(shape["mask"])))) > 0
            found[top : bottom + 1, left : right + 1][inside] = number
        else:
            drawn = Image.new("L", found.shape[::-1])
            points = [tuple(point) for point in shape["points"]]
            ImageDraw.Draw(drawn).polygon(points, outline=1, fill=1)
            found[np.asarray(drawn) > 0] = number
    return found


@pytest.mark.parametrize(("words", "least"), [([], 1.0), (["--polygons"], 0.99)])
def test_labelme_s_shapes_are_the_masks(folder, truth, tmp_path, words, least):
    assert export(folder, "labelme", tmp_path / "labelme", *words) == 0
    for image_id, expected in truth.items():
        path = tmp_path / "labelme" / f"{image_id}.json"
        photo = (path.parent / json.loads(path.read_text())["imagePath"]).resolve()
        assert photo.with_suffix("") == folder.parent / "my photos" / image_id
        check(labelme_masks(path), expected, least)


@pytest.mark.parametrize(("words", "least"), [([], 1.0), (["--polygons"], 0.99)])
def test_labelme_reads_its_shapes(folder, truth, tmp_path, words, least):
    pytest.importorskip("labelme", reason="an official reader, not in the lock")
    from labelme import utils

    assert export(folder, "labelme", tmp_path / "labelme", *words) == 0
    numbers = {name: number for number, name in enumerate(CLASSES, 1)}
    for image_id, expected in truth.items():
        content = json.loads((tmp_path / "labelme" / f"{image_id}.json").read_text())
        for shape in content["shapes"]:
            if shape["mask"] is not None:
                shape["mask"] = utils.img_b64_to_arr(shape["mask"]).astype(bool)
        found, _ = utils.shapes_to_label(expected.shape, content["shapes"], numbers)
        check(found, expected, least)


# -- Label Studio


def unpacked(data: list[int]) -> np.ndarray:
    """rle-pack's form (github.com/thi-ng/umbrella, packages/rle-pack)."""
    bits, at = "".join(f"{byte:08b}" for byte in data), 0

    def read(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    total, width = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values: list[int] = []
    while len(values) < total:
        repeated, length = read(1), read(sizes[read(2)]) + 1
        values += [read(width)] * length if repeated else [read(width) for _ in range(length)]
    return np.array(values, np.uint8)


def studio_masks(task: dict, decode) -> np.ndarray:
    results = task["predictions"][0]["result"]
    size = results[0]["original_height"], results[0]["original_width"]
    found = np.zeros(size, np.uint8)
    for result in results:
        value = result["value"]
        assert result["type"] in value and result["to_name"] == "image"
        if result["type"] == "brushlabels":
            inside = decode(value["rle"]).reshape(*size, 4)[..., 3] > 0
        else:
            points = np.array(value["points"]) / 100 * size[::-1]
            coded = coco_mask.frPyObjects([points.ravel().tolist()], *size)
            inside = coco_mask.decode(coco_mask.merge(coded)) > 0
        found[inside] = CLASSES.index(value[result["type"]][0]) + 1
    return found


@pytest.mark.parametrize(("words", "least"), [([], 1.0), (["--polygons"], 0.99)])
def test_label_studio_s_tasks_hold_the_masks(folder, truth, tmp_path, words, least, capsys):
    assert export(folder, "label-studio", tmp_path / "studio", *words) == 0
    assert f"DOCUMENT_ROOT={folder.parent / 'my photos'}\n" in capsys.readouterr().out
    config = ElementTree.parse(tmp_path / "studio/label_config.xml").getroot()
    tag = config.find("PolygonLabels" if words else "BrushLabels")
    assert [entry.get("value") for entry in tag] == CLASSES
    tasks = json.loads((tmp_path / "studio/tasks.json").read_text())
    addresses = [task["data"]["image"] for task in tasks]
    assert "/data/local-files/?d=sub%20dir/p050.webp" in addresses
    for task, expected in zip(tasks, (truth[i] for i in sorted(truth)), strict=True):
        check(studio_masks(task, unpacked), expected, least)


def test_label_studio_s_sdk_unpacks_the_brush_masks(folder, truth, tmp_path):
    brush = pytest.importorskip(
        "label_studio_sdk.converter.brush", reason="an official reader, not in the lock"
    )
    assert export(folder, "label-studio", tmp_path / "studio") == 0
    tasks = json.loads((tmp_path / "studio/tasks.json").read_text())
    for task, image_id in list(zip(tasks, sorted(truth), strict=True))[:20]:
        check(studio_masks(task, brush.decode_rle), truth[image_id], 1.0)


# -- Hugging Face


def test_datasets_loads_photos_masks_and_objects(folder, truth, tmp_path):
    datasets = pytest.importorskip("datasets", reason="the extra `export`, not in the lock")
    assert export(folder, "hf-datasets", tmp_path / "hf") == 0
    read = datasets.load_dataset(
        str(tmp_path / "hf"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(read) == COUNT
    assert read.features["objects"].feature["category"].names == CLASSES
    for row in read:
        expected = truth[row["id"]]
        assert np.array_equal(np.asarray(row["mask"]), expected)
        assert row["image"].size == expected.shape[::-1]
        found = np.zeros_like(expected)
        for entry in row["objects"]:
            coded = {"size": list(expected.shape), "counts": entry["counts"].encode()}
            found[coco_mask.decode(coded) > 0] = entry["category"] + 1
        check(found, expected, 1.0)


def test_without_datasets_one_line_names_the_extra(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert export(folder, "hf-datasets", tmp_path / "hf") == 1
    assert "'.[export]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


# -- masks of the workflow, and mistakes


def workflow_masks(tmp_path: Path, background: bool, mask: np.ndarray) -> tuple[Path, list]:
    entry = {"key": "own", "classes": CLASSES, "background": background, "photos": "{split}/{id}.*"}
    (tmp_path / "data" / "val").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    Image.new("RGB", mask.shape[::-1]).save(tmp_path / "data" / "val" / "a.jpg")
    Image.fromarray(mask).save(tmp_path / "masks" / "a.png")
    (tmp_path / "masks" / "manifest.json").write_text(
        json.dumps({"parameters": {}, "items": [{"id": "a"}]})
    )
    words = ["--dataset", json.dumps(entry), "--root", tmp_path / "data", "--split", "val"]
    return tmp_path / "masks", words


@pytest.mark.parametrize("background", [True, False])
def test_masks_of_the_workflow_have_their_data_set_s_classes(tmp_path, background):
    mask = np.full((6, 8), 255, np.uint8)
    mask[:2], mask[2:4, :3] = 0, 1 + background
    masks, words = workflow_masks(tmp_path, background, mask)
    assert export(masks, "coco", tmp_path / "out.json", *words) == 0
    content = json.loads((tmp_path / "out.json").read_text())
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    found = {names[entry["category_id"]]: entry["area"] for entry in content["annotations"]}
    assert found == ({"my cat": 6} if background else {"dog": 16, "my cat": 6})
    assert export(masks, "voc", tmp_path / "voc", *words) == 0
    labels = np.asarray(Image.open(tmp_path / "voc/SegmentationClass/a.png"))
    assert np.array_equal(labels == 255, mask == 255) and labels[2, 0] == 2


def test_mistakes_are_one_line_and_leave_nothing(folder, tmp_path, capsys):
    mask = np.zeros((6, 8), np.uint8)
    mask[0] = 7
    masks, words = workflow_masks(tmp_path / "own", True, mask)
    weights = tmp_path / "weights.safetensors"
    (tmp_path / "there").mkdir()
    for source, kind, name, more, said in (
        (folder, "labelme", "there", [], "is there already"),
        (folder, "coco", "out", [], "name it ....json"),
        (folder, "onnx", "out.onnx", [], "for a segmentor"),
        (weights, "coco", "out.json", [], "for folders of masks"),
        (tmp_path, "coco", "out.json", [], "no manifest.json of finished masks"),
        (folder, "coco", "out.json", words, "leave out --dataset"),
        (masks, "coco", "out.json", [], "add --dataset and --root"),
        (masks, "voc", "out", words, "number 7 is no class"),
    ):
        assert export(source, kind, tmp_path / name, *more) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("error: ") and said in line
    (tmp_path / "own" / "data" / "val" / "a.jpg").unlink()
    assert export(masks, "yolo-seg", tmp_path / "out", *words) == 1
    assert "no such photo" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"own", "there"}
