"""Own data sets without an edit in the package: by YAML alone, and with one Python file."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
CLASSES = ["sky", "grass", "road"]
COLOURS = np.array([(80, 140, 230), (70, 160, 60), (120, 120, 120)], np.uint8)
SIZE = 64
# one name in both splits, and suffixes as cameras write them
PHOTOS = {
    "train": {"one.JPG": (0, 1), "two.png": (1, 2), "far/three.jpeg": (2, 0)},
    "val": {"one.png": (2, 1)},
}


def run(folder: Path, configuration: dict, *targets: str) -> None:
    own = folder / "own.yaml"
    own.write_text(yaml.safe_dump(configuration))
    command = [
        SNAKEMAKE, *targets, "--snakefile", REPOSITORY / "Snakefile", "--directory", folder,
        "--cores", "1", "--configfile", REPOSITORY / "config" / "config.yaml", own,
    ]  # fmt: skip
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    logs = [log.read_text()[-2000:] for log in (folder / "work").rglob("*.log")]
    assert done.returncode == 0, (done.stderr[-3000:], logs)


def miou_by_hand(pairs: list[tuple[np.ndarray, np.ndarray]], classes: int) -> float:
    """The mean over the classes that occur of what (prediction, truth) share, pixel by pixel."""
    shared, either = [0] * classes, [0] * classes
    for prediction, truth in pairs:
        for p, t in zip(prediction.ravel().tolist(), truth.ravel().tolist(), strict=True):
            if t == 255:
                continue
            if p == t:
                shared[t] += 1
                either[t] += 1
            else:
                either[p] += 1
                either[t] += 1
    return 100 * np.mean([s / e for s, e in zip(shared, either, strict=True) if e])


@pytest.fixture
def toy(tmp_path) -> Path:
    """A data set in which every pixel is of a class: two of them a photo, one above the other."""
    rng = np.random.default_rng(0)
    for split, photos in PHOTOS.items():
        for name, (above, below) in photos.items():
            mask = np.full((SIZE, SIZE), below, np.uint8)
            mask[: int(rng.integers(20, 44))] = above
            photo = COLOURS[mask] + rng.integers(0, 20, (SIZE, SIZE, 3), np.uint8)
            place = tmp_path / "toy" / "images" / split / name
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(photo).save(place)
            mask[:, 0] = 255
            place = (tmp_path / "toy" / "masks" / split / name).with_suffix(".png")
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(place)
    return tmp_path


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_a_data_set_of_classes_without_background_needs_yaml_alone(toy, tiny_sd):
    run(
        toy,
        {
            "device": "cpu",
            "resources": {"gpu_per_job": 0},
            "model": {"path": str(tiny_sd), "revision": None},
            "datasets": {
                "toy": {
                    "source": "folder",
                    "root": "toy",
                    "classes": CLASSES,
                    "background": False,
                    "labels": "mask",
                    "synonyms": {"road": "street"},
                    "splits": {"train": {"images": 3}, "val": {"images": 1}},
                }
            },
            "extraction": {"noises": 1, "resize": "none", "shard_size": 4, "batch_size": 4},
            "segmentors": {
                "tiny": {
                    "architecture": "deeplabv2",
                    "backbone": "resnet18",
                    "pretrained": None,
                    "width": 8,
                    "stem": "small",
                    "output_stride": 8,
                    "rates": [1, 2],
                    "crop": 64,
                    "batch": 2,
                    "iterations": 5,
                    "workers": 0,
                    "train": {"dataset": "toy", "split": "train", "masks": "base/crf"},
                    "test": {"scales": [1.0], "flip": False, "crf": False},
                }
            },
        },
        "work/evaluation/masks/toy/train/base/crf/metrics.json",
        "work/evaluation/segmentors/tiny/val/metrics.json",
        "results/submissions/tiny/val.json",
    )
    made, truth = toy / "work/masks/toy/train/base/crf", toy / "toy/masks"
    names = sorted(str(Path(name).with_suffix("")) for name in PHOTOS["train"])
    pairs = [(read(made / f"{n}.png"), read(truth / "train" / f"{n}.png")) for n in names]
    for name, (prediction, _) in zip(names, pairs, strict=True):
        (present,) = (p for n, p in PHOTOS["train"].items() if n.startswith(f"{name}."))
        assert set(np.unique(prediction)) <= set(present), name
    metrics = json.loads(
        (toy / "work/evaluation/masks/toy/train/base/crf/metrics.json").read_text()
    )
    assert metrics["classes"] == CLASSES
    assert metrics["miou"] == pytest.approx(miou_by_hand(pairs, 3))
    (shard,) = (toy / "work/attention/toy/train/base").glob("shard-*.json")
    asked = json.loads(shard.read_text())["parameters"]["vocabulary"]
    assert asked == {"synonyms": {"road": "street"}, "background_words": [], "official": {}}

    metrics = json.loads((toy / "work/evaluation/segmentors/tiny/val/metrics.json").read_text())
    assert metrics["classes"] == CLASSES
    with tarfile.open(toy / "results/submissions/tiny/val.tgz") as archive:
        (member,) = (m for m in archive.getmembers() if m.name.endswith("one.png"))
        predicted = np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())))
    assert set(np.unique(predicted)) <= {0, 1, 2}
    assert metrics["miou"] == pytest.approx(
        miou_by_hand([(predicted, read(truth / "val" / "one.png"))], 3)
    )


LAYOUT = """
import json
from pathlib import Path

from attnseg.datasets import Dataset


class Field(Dataset):
    def read_split(self, root, split):
        return json.loads((Path(root) / "index.json").read_text())[split]

    def labels_from_notes(self, root, image_id, split):
        return (Path(root) / image_id / "notes.txt").read_text().split()

    def read_truth(self, root, image_id, size=None, split=None):
        from attnseg.datasets.images import read_image

        return read_image(self.mask_path(root, image_id))[..., 0] // 100


DATASET = Field(
    name="field",
    classes=("crop", "weed"),
    photos="{id}/camera.*",
    masks="{id}/drawn.png",
    label_sources=("notes",),
)
"""


def test_an_odd_layout_is_a_file_that_the_configuration_names(tmp_path):
    (tmp_path / "my_layout.py").write_text(LAYOUT)
    rng, truth = np.random.default_rng(1), {}
    for name in ("a", "b"):
        folder = tmp_path / "field" / name
        folder.mkdir(parents=True)
        truth[name] = rng.integers(0, 3, (12, 10)).astype(np.uint8)
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), np.uint8)).save(folder / "camera.tif")
        Image.fromarray(np.stack([truth[name] * 100] * 3, -1)).save(folder / "drawn.png")
        (folder / "notes.txt").write_text("weed crop" if name == "a" else "crop")
    (tmp_path / "field" / "index.json").write_text(json.dumps({"all": ["b", "a"]}))
    entry = {
        "source": "folder", "root": "field", "file": "my_layout.py", "splits": {"all": {"images": 2}},
    }  # fmt: skip
    target = "work/evaluation/masks/field/all/reference/random_labels/metrics.json"
    run(tmp_path, {"datasets": {"field": entry}}, target)
    folder = tmp_path / "work/masks/field/all/reference/random_labels"
    assert set(np.unique(read(folder / "b.png"))) == {0, 1}
    metrics = json.loads((tmp_path / target).read_text())
    assert metrics["classes"] == ["background", "crop", "weed"]
    pairs = [(read(folder / f"{name}.png"), truth[name]) for name in truth]
    assert metrics["miou"] == pytest.approx(miou_by_hand(pairs, 3))
