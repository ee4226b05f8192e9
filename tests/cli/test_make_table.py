"""scripts/make_table.py as a program."""

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "masks/voc/train/base/crf"


def make_table(*arguments, module=("scripts/make_table.py",), **options):
    command = [sys.executable, *module, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture
def metrics(tmp_path):
    path = tmp_path / "metrics.json"
    content = {
        "dataset": "mini_voc",
        "split": "train",
        "n_images": 400,
        "classes": ["background"],
        "iou": [61.26],
        "miou": 61.26,
        "pixel_accuracy": 70.0,
        "model": "mini_sd + ResNet-18",
        "seed": 0,
        "parameters": {},
    }
    path.write_text(json.dumps(content))
    return path


def test_a_table_is_made_with_its_provenance_and_its_page(tmp_path, metrics):
    config = tmp_path / "config.json"
    config.write_text('{"seed": 0}')
    cost = tmp_path / "benchmarks" / "evaluate_masks" / "a.json"
    cost.parent.mkdir(parents=True)
    attempts = [{"seconds": 3.5, "cpu_seconds": 3.0, "peak_mib": 100.0}]
    cost.write_text(
        json.dumps({"command": [], "attempts": attempts, "read": [], "wrote": [str(metrics)]})
    )
    output = tmp_path / "results" / "voc_table1.csv"
    done = make_table(
        *("voc_table1", "--published", "config/published/voc_table1.csv"),
        *("--evaluation", f"{NAME}={metrics}", "--output", output, "--config", config),
        *("--data", f"metrics={metrics}", "--model", "sd=" + "0" * 64, "--device", "cpu"),
        *("--benchmarks", tmp_path / "benchmarks", "--show"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"{output}: 1 measured, 28 published, 7 not run"
    assert "76.1 | 61.3" in done.stdout
    assert {path.name for path in output.parent.iterdir()} == {
        *("voc_table1.csv", "voc_table1.html", "voc_table1.provenance.json"),
    }
    with open(output, newline="", encoding="utf-8") as file:
        row = next(r for r in csv.DictReader(file) if r["ours"])
    assert (row["method"], row["metric"], row["paper"], row["ours"]) == (
        *("Ours (10 times)", "dCRF", "76.1", "61.3"),
    )
    assert (row["dataset"], row["n_images"], row["model"]) == (
        "mini_voc",
        "400",
        "mini_sd + ResNet-18",
    )

    digest = hashlib.sha256(metrics.read_bytes()).hexdigest()
    record = json.loads(output.with_suffix(".provenance.json").read_text())
    assert record["evaluations"] == {NAME: [{"file": str(metrics), "sha256": digest}]}
    assert record["config"] == {"seed": 0} and record["data"] == {"metrics": digest}
    assert record["models"] == {"sd": "0" * 64} and record["device"]["device"] == "cpu"
    assert (record["wall_time_s"], record["peak_memory_mib"]) == (3.5, 100.0)
    assert set(record["git"]) == {"revision", "dirty"} and record["packages"]["numpy"]


def test_the_same_inputs_make_the_same_table(tmp_path, metrics):
    for folder in ("a", "b"):
        output = tmp_path / folder / "voc_table1.csv"
        assert (
            make_table(
                "voc_table1", "--evaluation", f"{NAME}={metrics}", "--output", output
            ).returncode
            == 0
        )
    made = [tmp_path / folder / "voc_table1.csv" for folder in ("a", "b")]
    assert made[0].read_bytes() == made[1].read_bytes()
    pages = [file.with_suffix(".html").read_text() for file in made]
    for file, page in zip(made, pages, strict=True):  # which says on what day it was made
        date = json.loads(file.with_suffix(".provenance.json").read_text())["date"]
        assert f"Made {date} at revision" in page
    assert pages[0] == pages[1]


def test_several_evaluations_may_follow_one_flag_or_several(tmp_path, metrics):
    names = ["masks/voc/train/base/none", "masks/voc/train/one_noise/crf"]
    output = tmp_path / "voc_table1.csv"
    pairs = [f"{name}={metrics}" for name in names]
    done = make_table(
        *("voc_table1", "--output", output, "--evaluations", *pairs),
        *("--evaluation", f"{NAME}={metrics}"),
    )
    assert "3 measured" in done.stdout, done.stderr


def test_it_says_which_evaluations_it_needs():
    done = make_table("voc_table5", "--needs")
    assert done.returncode == 0
    assert "masks/voc/train/one_noise/cbp_crf" in done.stdout.splitlines()


def test_tables_are_printed_together(tmp_path):
    files = []
    for target in ("voc_table3", "voc_table5"):
        files.append(tmp_path / f"{target}.csv")
        make_table(target, "--output", files[-1])
    environment = {"PYTHONPATH": "scripts", "PATH": "", "PYTHONUTF8": "1"}
    done = make_table(*files, "--width", 80, module=("-m", "attnseg.results"), env=environment)
    assert done.returncode == 0, done.stderr
    assert "Text2Mask, Table 3." in done.stdout and "Text2Mask, Table 5." in done.stdout


def test_help_is_readable():
    done = make_table("--help")
    assert done.returncode == 0
    for word in ("--evaluation", "--published", "voc_table_b8", "provenance"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["voc_table99", "--output", "x.csv"], "voc_table99 is not a table"),
        (["voc_table1"], "--output"),
        (["voc_table1", "--output", "x.json"], "--output"),
        (["voc_table1", "--output", "x.csv", "--evaluation", "masks/voc"], "NAME=VALUE"),
        (["voc_table1", "--output", "x.csv", "--evaluation", "a=1", "a=2"], "given twice"),
        (["voc_table1", "--output", "x.csv", "--evaluation", f"{NAME}=no.json"], "no.json"),
        (["voc_table1", "--output", "x.csv", "--published", "no.csv"], "no.csv"),
        (["voc_table1", "--output", "x.csv", "--config", "no.json"], "no.json"),
        (["voc_table1", "--output", "x.csv", "--data", "voc=no_folder"], "no_folder"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(arguments, says):
    done = make_table(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1
    assert says in done.stderr
    assert not (ROOT / "x.csv").exists()
