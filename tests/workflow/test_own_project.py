"""`attnseg init`: from a folder of photos to masks, a segmentor and a picture, by one YAML file."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from attnseg import datasets
from attnseg.app import command
from attnseg.config.reading import read_config
from attnseg.core.crf import crf_probabilities
from attnseg.datasets.labels import known_labels, without_suffix
from attnseg.errors import run
from attnseg.jobs import Jobs
from attnseg.jobs.settings import test_job

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
    return read_config(REPOSITORY / "config" / "config.yaml", path)


def test_labels_come_from_what_is_there(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (photos / "sub dir" / "phone.heic").touch()
    assert init("pets", "--photos", photos, "--classes", "dog,cat") == 0
    said = capsys.readouterr().out
    assert "every class is asked for in all photos" in said
    assert "note: left out, no pictures: sub dir/phone.heic\n" in said
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
    words = ["--photos", sorted_photos, "--classes", "dog,cat", "--output", "by folder.yaml"]
    assert init("sorted", *words) == 0
    assert written(Path("by folder.yaml"))["datasets"]["sorted"]["labels"] == "folders"
    assert "--configfile by folder.yaml\n" in Path("by folder.yaml").read_text()
    assert "folder names" not in capsys.readouterr().out
    (sorted_photos / "new").mkdir()
    Image.new("RGB", (8, 8)).save(sorted_photos / "new" / "x.png")
    assert init("partly", *words[:4]) == 0
    said = capsys.readouterr().out
    assert "note: folder names are not used as labels: new/ is no class" in said
    assert written(Path("partly.yaml"))["datasets"]["partly"]["labels"] == "all"


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


@pytest.mark.parametrize("kind", ["coco", "xml"])
def test_annotations_and_a_table_may_have_the_labels_together(
    photos, tmp_path, monkeypatch, capsys, kind
):
    monkeypatch.chdir(tmp_path)
    lines = ["id,classes", "b (1),cat", "sub dir/c,dog;cat", "d,", "e,dog", "turned,cat"]
    (photos / "labels.csv").write_text("\n".join(lines))
    content = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"image_id": 1, "category_id": 1}],
        "categories": [{"id": 1, "name": "dog"}],
    }
    (tmp_path / "own.json").write_text(json.dumps(content))
    (tmp_path / "xml").mkdir()
    text = "<annotation><object><name>dog</name></object></annotation>"
    (tmp_path / "xml/a.xml").write_text(text)
    labels = "own.json" if kind == "coco" else "xml"
    assert init("pets", "--photos", photos, "--classes", "dog,cat", "--labels", labels) == 0
    said = capsys.readouterr().out
    assert "5 of 6 photos have labels in labels.csv alone" in said
    assert "left out" not in said
    assert "photos have no labels" not in said
    entry = written(Path("pets.yaml"))["datasets"]["pets"]
    facts = datasets.load("pets", entry)
    assert entry["labels"] == "known"
    assert known_labels(facts, photos, "a") == ["dog"]
    assert known_labels(facts, photos, "sub dir/c") == ["dog", "cat"]


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


def test_what_lies_below_the_photos_is_not_taken_for_photos(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    below = photos / "sub dir"
    words = ["pets", "--photos", photos, "--classes", "dog,cat"]
    for flag, kind in (("masks", "masks"), ("train-on", "masks"), ("further", "further photos")):
        assert init(*words, f"--{flag}", below) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"error: {below}: {kind} lie below --photos; move them"
    (below / "manifest.json").write_text('{"made_with": {}}')
    assert init(*words) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"error: {below}: masks lie below --photos; move them"
    (below / "manifest.json").write_text("[]")  # of another program
    assert init(*words) == 0


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


def test_masks_of_segment_train_and_are_checked_first(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    masks, ids = tmp_path / "my masks", []
    for path in photos.rglob("*.*"):
        mask = (masks / path.relative_to(photos)).with_suffix(".png")
        mask.parent.mkdir(parents=True, exist_ok=True)
        size = (48, 64) if path.name == "turned.jpg" else (64, 48)
        Image.new("L", size, 2).save(mask)
        ids.append(mask)
    record = {"classes": ["dog", "cat"], "made_with": {"exif": "turn"}, "photos": {}}
    (masks / "manifest.json").write_text(json.dumps(record))
    words = ["--photos", photos, "--classes", "dog,cat", "--train-on", masks]
    for change, said in (
        (
            lambda: Image.new("L", (64, 48)).save(masks / "turned.png"),
            "turned.png: the mask is 64x48",
        ),
        (lambda: Image.new("L", (48, 64), 3).save(masks / "turned.png"), "class number 3"),
        ((masks / "turned.png").unlink, "turned.png: no such file; each photo needs one"),
    ):
        change()
        assert init("pets", *words) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line
    Image.new("L", (48, 64), 1).save(masks / "turned.png")
    assert init("pets", *words[:3], "cat,dog", *words[4:]) == 1
    assert "masks of --classes dog,cat, in this order" in capsys.readouterr().err
    for flag, value in (("--labels", "csv"), ("--synonyms", "cat=kitten")):
        assert init("pets", *words, flag, value) == 1
        assert f"{flag} is about masks to make" in capsys.readouterr().err
    for other in ([], {"classes": "dog", "made_with": "me"}):  # of another program
        (masks / "manifest.json").write_text(json.dumps(other))
        assert init("other", *words, "--output", f"other{len(other)}.yaml") == 0
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (8, 8)).save(more / "x.png")
    assert init("pets", *words, "--further", more) == 0
    config = written(Path("pets.yaml"))
    assert config["targets"] == ["<work>/segmentors/pets/weights.safetensors", "pets_further"]
    jobs = Jobs(config)
    assert jobs.segmentors.training_flags("pets")["train_masks"] == str(masks)
    assert jobs.segmentors.training_masks("pets") == "<resources>/pets.json"
    assert jobs.segmentors.newest_photo("pets_further") == str(more / "x.png")
    assert jobs.segmentors.prediction_flags("pets_further")["ignore_exif"] is False
    words = [
        SNAKEMAKE,
        "-n",
        "--snakefile",
        REPOSITORY / "Snakefile",
        "--cores",
        "1",
        "--quiet",
        "rules",
    ]
    words += ["--configfile", REPOSITORY / "config" / "config.yaml", "pets.yaml"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    plan = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert {"train_segmentor", "predict_photos", "make_report"} <= plan
    assert not {"extract_attention", "refine_masks", "draw_picture"} & plan


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
    more = tmp_path / "more photos"
    more.mkdir()
    Image.new("RGB", (40, 30), "red").save(more / "one (1).jpg")
    Image.new("RGB", (30, 40), "blue").save(more / "two.png")
    (more / "cut.jpg").write_bytes((more / "one (1).jpg").read_bytes()[:300])
    words = ["--photos", photos, "--classes", "dog,cat", "--masks", truth, "--further", more]
    assert init("pets", *words) == 0
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
    words_of_run = [
        SNAKEMAKE, "--snakefile", REPOSITORY / "Snakefile", "--cores", "1",
        "--configfile", REPOSITORY / "config" / "config.yaml", "pets.yaml", "tiny.yaml",
    ]  # fmt: skip
    done = subprocess.run(list(map(str, words_of_run)), capture_output=True, text=True)
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
    with zipfile.ZipFile(tmp_path / "results/pets/report.zip") as archive:
        page, pictures = archive.read("index.html").decode(), archive.namelist()
    assert "their masks are weaker than with labels" in page
    assert "present from a score of" in page and "the best on 6 photos" in page
    assert "2 further photos, predicted by the segmentor pets" in page
    assert "1 could not be read" in page and "cut.jpg" in page
    assert {"figures/pets_masks.png", "figures/pets_further.png"} <= set(pictures)
    further = tmp_path / "results/pets/pets_further"
    assert Image.open(further / "one (1).png").size == (40, 30)
    assert (further / "overlays/two.jpg").is_file() and (further / "index.html").is_file()
    # the same as what the segmentor predicts of a photo with its own settings
    from attnseg.segmentation.model import load_segmentor
    from attnseg.segmentation.predict import probabilities

    model, _ = load_segmentor(tmp_path / "work/pets/segmentors/pets/weights.safetensors")
    config = read_config(
        REPOSITORY / "config" / "config.yaml", Path("pets.yaml"), Path("tiny.yaml")
    )
    test = test_job(config, "pets")
    photo = np.asarray(Image.open(more / "two.png"))
    scores = crf_probabilities(photo, probabilities(model, photo[None], test)[0], test.crf)
    predicted = np.asarray(Image.open(further / "two.png"))
    assert np.mean(predicted == scores.argmax(0)) > 0.999
    # a further photo is predicted, and nothing is trained again
    Image.new("RGB", (20, 20), "green").save(more / "three.png")
    done = subprocess.run([*map(str, words_of_run), "-n"], capture_output=True, text=True)
    assert "predict_photos" in done.stdout and "train_segmentor" not in done.stdout
