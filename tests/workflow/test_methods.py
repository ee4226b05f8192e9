"""Competing methods by configuration: from their masks to a metric and a row of a table."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnseg.io.files import sha256
from attnseg.io.provenance import digest
from attnseg.results import evaluations_needed

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SCORED = "work/evaluation/masks/voc/train/{}/given/metrics.json"


def save(path: Path, mask: list[list[int]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(mask, np.uint8)).save(path)


@pytest.fixture
def world(tmp_path) -> dict:
    """Two photos in VOC's layout, and a rival's masks of them, in two settings -> the configuration.

    By hand, pixels (shared / either) over both photos. The rival: background 4/6, dog 3/6, cat 1/2; its
    other setting: all background, 5/11.
    """
    truth = {"a": [[0, 0, 12], [0, 12, 12]], "b": [[0, 0, 8], [255, 8, 12]]}
    rival = {"a": [[0, 0, 12], [0, 0, 12]], "b": [[0, 12, 8], [15, 12, 12]]}
    folder = tmp_path / "voc"
    for name, mask in truth.items():
        save(folder / "SegmentationClassAug" / f"{name}.png", mask)
        save(folder / "JPEGImages" / f"{name}.jpg", np.zeros((2, 3, 3)))
        save(tmp_path / "rival" / "voc_train" / f"{name}.png", rival[name])
        save(tmp_path / "rival" / "plain" / f"{name}.png", [[0] * 3] * 2)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    (folder / "labels.csv").write_text("id,classes\na,dog\nb,dog;cat\n")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").write_text("{}")
    # a file of the rival's own, which is none of ours
    (tmp_path / "rival" / "voc_train" / "manifest.json").write_text("[]")
    return {
        "device": "cpu",
        "model": {"path": "model", "revision": None},
        "datasets": {
            "voc": {
                "source": "folder",
                "root": "voc",
                "labels": "csv",
                "splits": {"train": {"images": 2}},
            },
        },
        "methods": {
            "rival": {
                "label": "Rival",
                "masks": "rival/{dataset}_{split}",
                "fills": {"voc_table1": ["dCRF"], "voc_table6": ["mIoU", "boat"]},
            },
            "clims": {
                "label": "CLIMS",
                "masks": "rival/plain",
                "fills": {"voc_table1": ["Initial"]},
            },
        },
    }


def rows(path: Path) -> dict:
    with open(path) as file:
        return {(row["method"], row["metric"]): row for row in csv.DictReader(file)}


# over the classes of the truth that occur: background, dog, cat
RIVAL = 100 * (4 / 6 + 3 / 6 + 1 / 2) / 3
PLAIN = 100 * (5 / 11 + 0 + 0) / 3


def test_the_masks_of_another_method_stand_in_the_tables_beside_ours(
    world, tmp_path, run_own, job_logs
):
    done = run_own(world, SCORED.format("rival"), SCORED.format("clims"))
    assert done.returncode == 0, done.stderr + job_logs()
    for name, miou in (("rival", RIVAL), ("clims", PLAIN)):
        metrics = json.loads((tmp_path / SCORED.format(name)).read_text())
        assert metrics["miou"] == pytest.approx(miou)
        assert metrics["model"] == world["methods"][name]["label"] and metrics["seed"] is None
    # ours, measured elsewhere
    tables = ["voc_table1", "voc_table6"]
    for name in {name for table in tables for name in evaluations_needed(table)}:
        ours = tmp_path / "work/evaluation" / name / "metrics.json"
        ours.parent.mkdir(parents=True)
        mine = {
            "miou": 33.3,
            "iou": [33.3] * 21,
            "model": "sd",
            "seed": 0,
            "labels_per_second": None,
        }
        measured = {key: metrics[key] for key in set(metrics) - {"digest", "sha256"}}
        ours.write_text(json.dumps(measured | mine))

    targets = [f"results/{table}.csv" for table in tables]
    done = run_own(world, *targets)
    assert done.returncode == 0, done.stderr + job_logs()
    first, sixth = (rows(tmp_path / target) for target in targets)
    assert first["Ours (10 times)", "Initial"]["ours"] == "33.3"
    row = first["CLIMS", "Initial"]
    assert (row["paper"], row["ours"], row["status"]) == ("56.6", f"{PLAIN:.1f}", "measured")
    assert (row["dataset"], row["n_images"], row["model"]) == ("voc_2012", "2", "CLIMS")
    assert first["CLIMS", "dCRF"]["status"] == "published"
    row = first["Rival", "dCRF"]
    assert (row["paper"], row["ours"], row["status"]) == ("", f"{RIVAL:.1f}", "measured")
    assert ("Rival", "Initial") not in first
    assert sixth["Rival", "mIoU"]["ours"] == f"{RIVAL:.1f}"
    assert sixth["Rival", "boat"]["note"] == "not run: no pixel of the class"

    assert "| 15.2" in done.stdout and "Rival" in done.stdout
    assert "Rival: voc_2012 train, 2 images, masks as given" in done.stdout
    record = json.loads((tmp_path / "results/voc_table6.provenance.json").read_text())
    (evaluated,) = record["evaluations"]["masks/voc/train/rival/given"]
    assert evaluated["sha256"] == sha256(tmp_path / SCORED.format("rival"))
    assert record["data"]["masks/voc/train/rival/given"] == digest(tmp_path / "rival/voc_train")
    assert record["config"]["methods"]["rival"]["label"] == "Rival"


def test_replaced_masks_are_scored_again(world, tmp_path, run_own, job_logs):
    target = SCORED.format("rival")
    assert run_own(world, target).returncode == 0
    assert "Nothing to be done" in run_own(world, target).stderr
    save(tmp_path / "rival" / "voc_train" / "a.png", [[0] * 3] * 2)
    done = run_own(world, target)
    assert done.returncode == 0, done.stderr + job_logs()
    # background 4/8, dog 1/6, cat 1/2: of `a` nothing but background is left
    assert json.loads((tmp_path / target).read_text())["miou"] == pytest.approx(
        100 * (4 / 8 + 1 / 6 + 1 / 2) / 3
    )


def test_a_folder_that_is_not_there_is_one_line_of_the_plan(world, tmp_path, run_own):
    world["methods"]["rival"]["masks"] = "rivals/{split}"
    done = run_own(world, "-n", SCORED.format("rival"))
    assert done.returncode != 0
    expected = (
        "methods.rival.masks: rivals/train: no such folder; it must hold <id>.png of every image"
    )
    assert expected in done.stderr + done.stdout


def test_a_mask_that_is_not_there_is_one_line_of_the_log(world, tmp_path, run_own, job_logs):
    (tmp_path / "rival" / "plain" / "b.png").unlink()
    done = run_own(world, SCORED.format("clims"))
    assert done.returncode != 0
    assert "error: rival/plain/b.png is missing: masks of the whole split are needed" in job_logs()
