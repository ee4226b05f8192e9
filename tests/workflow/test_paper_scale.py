"""The default targets of the paper scale, on a handful of photos in the official layouts, to the end."""

import csv
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from attnseg.mini.world import coco_layout, splits
from attnseg.mini.world.coco_layout import write_coco
from attnseg.mini.world.voc_layout import write_voc

REPOSITORY = Path(__file__).resolve().parents[2]
VOC = {"trainaug": (2, 3), "train": (2, 2), "val": (3, 2)}
COCO = {"train": (31, 3, "train2014"), "val": (32, 2, "val2014")}
SMALL = {
    "backbone": "resnet18", "pretrained": None, "width": 8, "crop": 64, "batch": 2, "iterations": 2,
    "workers": 0, "test": {"scales": [1.0], "flip": False, "crf": False},
}  # fmt: skip


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """VOC without its photos of test, and COCO, below the test's folder: their configuration."""
    for name in list(splits.VOC_SPLITS):
        monkeypatch.delitem(splits.VOC_SPLITS, name)
    for name, value in VOC.items():
        monkeypatch.setitem(splits.VOC_SPLITS, name, value)
    monkeypatch.setattr(coco_layout, "COCO_SPLITS", COCO)
    root = tmp_path / "resources"
    write_voc(root / "VOCdevkit/VOC2012", 0)
    write_coco(root / "coco", 0)
    counts = {"voc": VOC, "coco": COCO}
    return {
        dataset: {
            "source": "folder",
            "splits": {split: {"images": entry[1]} for split, entry in counts[dataset].items()},
        }
        for dataset in counts
    }


def small_segmentors() -> dict:
    """DeepLabV2 as configured, but small: also where a later entry repeats a size."""
    configured = yaml.safe_load((REPOSITORY / "config/config.yaml").read_text())["segmentors"]
    small = {"deeplabv2_voc": SMALL}
    for name, entry in configured.items():
        own = [key for key in SMALL if key in entry and "<work>" not in str(entry[key])]
        if name not in small and name.startswith("deeplabv2_"):
            small[name] = {key: SMALL[key] for key in own}
    return small


@pytest.mark.slow
def test_the_default_targets_end_without_voc_s_photos_of_test(run_own, photos, tiny_sd, tmp_path):
    own = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "model": {"path": str(tiny_sd), "revision": None},
        "datasets": photos,
        "extraction": {"noises": 1, "resize": "none"},
        "segmentors": small_segmentors(),
    }
    done = run_own(own)
    results = tmp_path / "results"
    assert done.returncode == 0, done.stderr[-3000:]
    with open(results / "voc_table3.csv", newline="") as file:
        rows = {(row["method"], row["metric"]): row for row in csv.DictReader(file)}
    for method, segmentor in (
        ("Ours R101 V2", "deeplabv2_voc"),
        ("Ours R101 V2‡", "deeplabv2_voc_coco_init"),
    ):
        assert float(rows[method, "Val"]["ours"]) >= 0
        archive = results / "submissions" / segmentor / "test.tgz"
        assert not archive.exists()
        assert json.loads(archive.with_suffix(".json").read_text())["archive"] is None
    with zipfile.ZipFile(results / "report.zip") as report:
        page = report.read(next(name for name in report.namelist() if name.endswith(".html")))
    for said in (
        "no archive results/submissions/deeplabv2_voc/test.tgz for the evaluation server was made",
        "no archive results/submissions/deeplabv2_voc_coco_init/test.tgz",
        "test.txt: no list of split",
        "snakemake --force results/submissions/deeplabv2_voc/test.json --cores all",
    ):
        assert said in page.decode(), said

    # the photos come later: the command makes the archive
    lists = tmp_path / "resources/VOCdevkit/VOC2012/ImageSets/Segmentation"
    (lists / "test.txt").write_text((lists / "val.txt").read_text())
    done = run_own(own, "--force", "results/submissions/deeplabv2_voc/test.json")
    assert done.returncode == 0, done.stderr[-3000:]
    with tarfile.open(results / "submissions/deeplabv2_voc/test.tgz") as archive:
        assert len(archive.getnames()) == VOC["val"][1]
