"""`attnseg init`: from a folder of photos to masks, a segmentor and a picture, by one YAML file."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from attnseg import config as settings_of
from attnseg import datasets
from attnseg.app import command
from attnseg.datasets.labels import without_suffix
from attnseg.errors import run
from attnseg.jobs import Jobs

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
CLASSES = ["dog", "cat"]


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six photos: names with spaces and parentheses, PNG and JPEG, one lying on its side."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "my photos"
    names = ("a.png", "b (1).JPG", "sub dir/c.png", "d.jpeg", "e.png", "turned.jpg")
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if name == "turned.jpg":
            exif[0x0112] = 6
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(path, exif=exif)
    return folder


def init(*words: object) -> int:
    return run(lambda: command.main(["init", *map(str, words)]))


def written(path: Path) -> dict:
    """The configuration that the workflow reads, with every default."""
    return settings_of.read_config(REPOSITORY / "config" / "config.yaml", path)


def test_labels_come_from_what_is_there(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert init("pets", "--photos", photos, "--classes", "dog,cat") == 0
    assert "every class is asked for" in capsys.readouterr().out
    config = written(Path("pets.yaml"))["datasets"]["pets"]
    assert (config["labels"], config["splits"]["train"]["images"]) == ("all", 6)
    lines = ["id,classes", "a,dog", "b (1),cat", "sub dir/c,dog;cat", "d,", "e,dog", "turned,cat"]
    (photos / "labels.csv").write_text("\n".join(lines))
    assert (
        init("listed", "--photos", photos, "--classes", "dog,cat", "--synonyms", "cat=kitten") == 0
    )
    config = written(Path("listed.yaml"))["datasets"]["listed"]
    assert (config["labels"], config["synonyms"]) == ("csv", {"cat": "kitten"})
    sorted_photos = tmp_path / "sorted"
    for name in CLASSES:
        (sorted_photos / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(sorted_photos / name / f"{name}1.png")
    assert init("sorted", "--photos", sorted_photos, "--classes", "dog,cat") == 0
    assert written(Path("sorted.yaml"))["datasets"]["sorted"]["labels"] == "folders"


def test_labels_come_from_a_coco_file_or_voc_s_xml(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = [p.relative_to(photos).as_posix() for p in photos.rglob("*.*")]
    content = {
        "images": [{"id": i, "file_name": f"export/{name}"} for i, name in enumerate(files)],
        "annotations": [{"image_id": i, "category_id": i % 2} for i in range(len(files))],
        "categories": [{"id": 0, "name": "Dog"}, {"id": 1, "name": "person"}],
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    words = ["--photos", photos, "--classes", "dog,cat"]
    assert init("listed", *words, "--labels", "own.json") == 0
    said = capsys.readouterr().out
    assert "1 names that are no class, ignored: person (3)" in said
    assert "1 classes that it never names: cat" in said
    config = written(Path("listed.yaml"))
    assert Jobs(config).data.listed_labels("listed") == str(tmp_path / "own.json")
    facts = datasets.load("listed", config["datasets"]["listed"])
    found = {name: facts.labels(photos, without_suffix(name)) for name in files}
    assert found == {name: ["dog"] if i % 2 == 0 else [] for i, name in enumerate(files)}
    for name in files:
        path = tmp_path / "xml" / Path(name).with_suffix(".xml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("<annotation><object><name>CAT</name></object></annotation>")
    assert init("voc_like", *words, "--labels", "xml") == 0
    facts = datasets.load("voc_like", written(Path("voc_like.yaml"))["datasets"]["voc_like"])
    assert facts.labels(photos, "sub dir/c") == ["cat"]
    assert init("others", "--photos", photos, "--classes", "cow", "--labels", "own.json") == 1
    assert "no photo has one of the classes cow" in capsys.readouterr().err


def test_mistakes_are_one_line_and_nothing_is_overwritten(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pets.yaml").write_text("mine")
    for words, said in (
        (["pets", "--photos", photos], "pets.yaml: exists already"),
        (["2-pets", "--photos", photos], "a name starts with a letter"),
        (["dogs", "--photos", tmp_path / "none"], "no such folder of photos"),
        (["dogs", "--photos", photos, "--masks", tmp_path], "a.png: no such mask"),
        (["dogs", "--photos", photos, "--labels", "csv"], "labels.csv: cannot be read"),
        (["dogs", "--photos", photos, "--labels", "none.json"], "none.json: No such file"),
        (["dogs", "--photos", photos, "--labels", "none"], "--labels none: choose csv, folders"),
    ):
        assert init(*words, "--classes", "dog,cat") == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    assert (tmp_path / "pets.yaml").read_text() == "mine"
    assert not (tmp_path / "dogs.yaml").exists()


def test_classes_alone_go_the_way_of_generated_images(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["--classes", "dog,cat", "--images", 50, "--prompt", "a drawing of {}"]
    assert init("pets", *words, "--synonyms", "cat=kitten") == 0
    config = written(Path("pets.yaml"))
    assert config["synthesis"]["pets"]["count"] == 50
    train = config["segmentors"]["pets"]["train"]
    assert (train["synthesis"], train["images"], train["masks"]) == ("pets", 50, "crf")
    words = [SNAKEMAKE, "-n", "-p", "--snakefile", REPOSITORY / "Snakefile", "--cores", "1"]
    words += ["--configfile", REPOSITORY / "config" / "config.yaml", "pets.yaml"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "generate_images" in done.stdout and "a drawing of {}" in done.stdout
    assert init("others", "--classes", "dog", "--labels", "csv") == 1
    assert "--labels is about photos" in capsys.readouterr().err


@pytest.mark.slow
def test_a_project_makes_masks_a_segmentor_a_picture_and_measures_them(
    photos, tmp_path, tiny_sd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    truth = tmp_path / "truth"
    for path in photos.rglob("*.*"):
        size = (48, 64) if path.name == "turned.jpg" else (64, 48)  # of the turned photo
        mask = truth / path.relative_to(photos).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", size, 1).save(mask)
    assert init("pets", "--photos", photos, "--classes", "dog,cat", "--masks", truth) == 0
    tiny = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "model": {"path": str(tiny_sd), "revision": None},
        "extraction": {"noises": 1, "resize": "none"},
        "segmentors": {
            "pets": {
                "backbone": "resnet18", "pretrained": None, "width": 8, "stem": "small",
                "rates": [1, 2], "crop": 64, "batch": 2, "iterations": 5, "workers": 0,
            }
        },
    }  # fmt: skip
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    words = [
        SNAKEMAKE, "--snakefile", REPOSITORY / "Snakefile", "--cores", "1",
        "--configfile", REPOSITORY / "config" / "config.yaml", "pets.yaml", "tiny.yaml",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    masks = tmp_path / "work/pets/masks/pets/train/base/crf"
    made = {p.relative_to(masks).as_posix() for p in masks.rglob("*.png")}
    assert made == {
        p.relative_to(photos).with_suffix(".png").as_posix() for p in photos.rglob("*.*")
    }
    assert Image.open(masks / "turned.png").size == (48, 64)
    assert (tmp_path / "work/pets/segmentors/pets/weights.safetensors").is_file()
    assert Image.open(tmp_path / "results/pets/pets_masks.png").size > (100, 100)
    path = tmp_path / "work/pets/evaluation/masks/pets/train/base/crf/metrics.json"
    pixels = [np.asarray(Image.open(path)) for path in masks.rglob("*.png")]
    share = np.mean(np.concatenate([p.ravel() for p in pixels]) == 1)
    assert json.loads(path.read_text())["pixel_accuracy"] == pytest.approx(100 * share)
    assert (tmp_path / "work/pets/evaluation/segmentors/pets/train/metrics.json").is_file()
    assert (tmp_path / "results/pets/report.zip").is_file()
