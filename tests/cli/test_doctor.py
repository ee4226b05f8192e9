"""The programs that report what a machine lacks, run as a user runs them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub.errors import GatedRepoError
from PIL import Image

from attnseg.app import doctor
from attnseg.errors import UserError

REPOSITORY = Path(__file__).parents[2]
TOOLS = REPOSITORY / "scripts" / "tools"


def run(tool, *flags, **environment):
    return subprocess.run(
        [sys.executable, TOOLS / f"{tool}.py", *map(str, flags)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": ""} | environment,
    )


@pytest.fixture
def config(tmp_path, tiny_sd):
    """Over the paper's: a VOC that holds a photo with its mask, and one without; a tiny model."""
    root = tmp_path / "VOC2012"
    for folder in ("JPEGImages", "SegmentationClassAug", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for i in ("a", "b"):
        Image.new("RGB", (4, 4)).save(root / "JPEGImages" / f"{i}.jpg")
    Image.new("P", (4, 4)).save(root / "SegmentationClassAug" / "a.png")
    for split, ids in (("train", "a"), ("trainaug", "a"), ("val", "a\nb"), ("test", "b")):
        (root / "ImageSets" / "Segmentation" / f"{split}.txt").write_text(ids + "\n")
    content = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "paths": {"resources": str(tmp_path)},
        "model": {"path": str(tiny_sd), "revision": None},
        "datasets": {
            "voc": {
                "root": str(root), "source": "folder",
                "splits": {
                    "train": {"images": 1}, "trainaug": {"images": 1}, "val": {"images": 2},
                    "test": {"images": 1},
                },
            }
        },
    }  # fmt: skip
    path = tmp_path / "config.yaml"

    def write(**changes):
        path.write_text(yaml.safe_dump(content | changes))
        return path

    return write


def lines_of(done):
    """subject -> (verdict, text) of doctor's lines, the first of each; VOC is the first data set."""
    found = {}
    for line in done.stdout.splitlines():
        verdict, subject, text = line.split(maxsplit=2)
        found.setdefault(subject.rstrip(":"), (verdict, text))
    return found


def test_doctor_says_a_line_each_and_what_to_do(config):
    done = run("doctor", "--configfile", config(), "--offline")
    lines = lines_of(done)
    assert list(lines) == [
        "Python", "packages", "PyTorch", "mmengine", "CRF", "Snakemake", "fonts", "memory", "disk",
        "GPU", "SLURM", "model", "data", "cost",
    ]  # fmt: skip
    for subject in ("Python", "PyTorch", "mmengine", "CRF", "disk", "GPU", "model"):
        assert lines[subject][0] == "ok", lines[subject]
    verdict, text = lines["data"]
    assert verdict == "todo" and "b.png and 0 more masks of val missing" in text
    assert done.returncode == 1 and done.stderr == ""


def test_doctor_ends_well_where_all_is_there(config, tmp_path):
    Image.new("P", (4, 4)).save(tmp_path / "VOC2012" / "SegmentationClassAug" / "b.png")
    done = run("doctor", "--configfile", config(), "--offline")
    assert lines_of(done)["data"] == ("ok", "voc: train, trainaug, val, test complete")
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("target", "verdict"),
    [("voc_table3", "todo"), ("coco_figure_b7", "note")],
)
def test_missing_photos_are_to_be_put_there_where_a_wanted_target_is_made_from_them(
    config, tmp_path, target, verdict
):
    shutil.rmtree(tmp_path / "VOC2012")
    done = run("doctor", "--configfile", config(targets=[target]), "--offline")
    assert lines_of(done)["data"][0] == verdict
    assert f"voc: no folder {tmp_path / 'VOC2012'}" in done.stdout
    assert done.returncode == (verdict == "todo")


def test_doctor_asks_for_a_gpu_where_the_configuration_needs_one(config):
    path = config(device="auto", resources={"gpu_per_job": 1})
    done = run("doctor", "--configfile", path, "--offline", PATH="/nonexistent")
    verdict, text = lines_of(done)["GPU"]
    assert verdict == "todo" and "device: cpu" in text


def test_doctor_names_a_component_that_the_model_lacks(config, tiny_sd, tmp_path):
    shutil.copytree(tiny_sd, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "tokenizer")
    path = config(model={"path": str(tmp_path / "model"), "revision": None})
    verdict, text = lines_of(run("doctor", "--configfile", path, "--offline"))["model"]
    assert verdict == "todo" and "no tokenizer/" in text


def test_doctor_asks_the_hub_for_a_model_that_is_to_be_downloaded(tmp_path, monkeypatch):
    """Its answer is said, or that there is none."""
    settings = {
        "model": {"path": "some/model", "revision": "133a221b", "file": None},
        "paths": {"resources": str(tmp_path)},
    }

    def gated(*_):
        raise GatedRepoError.__new__(GatedRepoError)

    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", gated)
    monkeypatch.setattr(doctor, "_answers", lambda host: "huggingface.co" in host)
    verdict, text = doctor.model(settings, offline=True)
    assert verdict == "note" and "some/model is not here yet" in text
    assert "could not be asked whether a licence" in text
    with pytest.raises(UserError, match="hf auth login") as error:  # which `main` prints as a todo
        doctor.model(settings, offline=False)
    assert "https://huggingface.co/some/model" in str(error.value)
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_: None)
    assert "asked" not in doctor.model(settings, offline=False)[1]
    monkeypatch.setattr(doctor, "_answers", lambda host: False)
    assert "could not be asked" in doctor.model(settings, offline=False)[1]


def test_a_wrong_configuration_is_one_line(config):
    done = run("doctor", "--configfile", config(devise="cpu"), "--offline")
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1


def test_check_datasets_shows_what_is_complete_and_what_the_rest_blocks(config):
    done = run("check_datasets", "--configfile", config())
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["voc", "train", "1", "1/1", "1/1", "complete"] in rows
    assert ["voc", "val", "2", "2/2", "1/2", "incomplete"] in [row[:6] for row in rows]
    text = done.stdout
    assert (
        "voc_table1, voc_coco_table2 and 15 more" in text
        and "b.png and 0 more masks of val missing" in text
    )
    for name in ("coco", "imagenet_s", "cityscapes", "mug19"):
        assert any(row[0] == name and "missing" in row for row in rows)
    assert "its layout: docs/mug19.md" in text
    assert done.returncode == 0
    assert run("check_datasets", "--configfile", config(), "--strict").returncode == 1


def test_check_datasets_without_any_data_is_one_screen():
    done = run("check_datasets")
    assert done.returncode == 1 and len(done.stdout.splitlines()) < 30
    assert json.dumps(done.stdout).count("download_dataset") <= 2
