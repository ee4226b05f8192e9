"""The programs that measure: what they count, and each on the least that it takes."""

import argparse
import csv
import importlib
import sys
from pathlib import Path

import pytest
import torch

from attnseg.errors import UserError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import growth  # noqa: E402
import side_by_side  # noqa: E402
import start  # noqa: E402

CPU = torch.device("cpu")
LEAST = {  # flags -> rows of the CSV
    "crf": (["--photos", "1"], 2 * len((2, 3, 21, 81)) + 2 + 4),
    "extraction": (["--size", "mini", "--pixels", "64"], 6),
    "generation": (["--steps", "2", "--batch", "1"], 2),
    "growth": (["--scenes", "2", "4", "--shards", "1", "2"], 3),
    "segmentor": (["--batch", "2"], 16),
    "start": ([], 10),
}


def test_flops_and_memory_of_a_job_are_counted():
    left, right = torch.randn(100, 200), torch.randn(200, 2**18 // 100)
    (found,) = side_by_side.measured({"a": lambda: left @ right}, 3, CPU, "").values()
    assert found.flops == 2 * left.numel() * right.shape[1]
    assert found.peak == pytest.approx(100 * right.shape[1] * 4 / 2**20)  # the product, float32
    assert len(found.seconds) == 3


def test_no_job_is_always_after_the_same():
    order = []
    jobs = {name: lambda name=name: order.append(name) for name in "abc"}
    assert side_by_side.interleaved(jobs, 2, "") == {name: [None] * 2 for name in "abc"}
    assert "".join(order) == "cbaabc"


def test_a_verdict_says_by_how_much_a_target_is_missed():
    assert side_by_side.verdict(1.03, "at most", 1.03) == "met"
    assert side_by_side.verdict(0.78, "at most", 0.65) == "missed by 20%"
    assert side_by_side.verdict(5.2, "at least", 6.5) == "missed by 20%"
    assert side_by_side.verdict(7, "at least", 6.5) == "met"


def test_a_block_of_the_page_is_replaced_and_nothing_else(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    text = "# A\n<!-- one -->\n{}\n<!-- end -->\nb\n<!-- one more -->\nNot run.\n<!-- end -->\n"
    page.write_text(text.format("Not run."))
    monkeypatch.setattr(side_by_side, "PAGE", page)
    side_by_side.write_block("one", "| \\1 | 2 |\n")
    assert page.read_text() == text.format("| \\1 | 2 |")
    with pytest.raises(UserError, match="no <!-- two --> to write at"):
        side_by_side.write_block("two", "")


def test_every_round_is_kept_and_drawn(tmp_path):
    jobs = {"a": side_by_side.Measured([1.5, 2.5], 3.0, 4), "b": side_by_side.Measured([1.0], 2.0)}
    args = argparse.Namespace(csv=tmp_path / "a.csv", plot=tmp_path / "a.svg")
    side_by_side.keep(args, {"one": jobs})
    with args.csv.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], row["round"], float(row["seconds"])) for row in rows] == [
        ("a", "0", 1.5), ("a", "1", 2.5), ("b", "0", 1.0),
    ]  # fmt: skip
    assert args.plot.read_text().count("<svg ") == 1


def test_growth_is_fitted_to_the_cases_of_one_shard():
    found = {(n, 1): side_by_side.Measured([3 + 0.02 * n] * 2, 500.0) for n in (100, 400, 1000)}
    found[1000, 4] = side_by_side.Measured([99.0], 9999.0)
    (slope, first), (growing, memory) = growth.fitted(found)
    assert (slope, first) == pytest.approx((0.02, 3))
    assert (growing, memory) == pytest.approx((0, 500), abs=1e-9)


def test_a_start_counts_its_own_memory_and_time_alone():
    seconds, peak = start.started("-c", "held = b'a' * (50 * 2**20); sum(range(10**7))")
    _, least = start.started("-c", "pass")
    assert least < 30  # MiB: not those of this process, which has torch
    assert 45 < peak - least < 60
    assert 0.05 < seconds < 5
    with pytest.raises(UserError, match="ZeroDivisionError"):
        start.started("-c", "1 / 0")


def test_a_job_s_imports_are_those_in_its_functions_too():
    found = start.imports_of("train_segmentor").splitlines()
    assert "from attnseg.segmentation.train import train" in found
    assert found.index("import argparse") < found.index(
        "from attnseg.segmentation.train import train"
    )


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("name", LEAST)
def test_a_benchmark_measures_all_of_its_jobs(name, tmp_path, capsys):
    flags, count = LEAST[name]
    main = importlib.import_module(name).main
    files = ["--csv", str(tmp_path / "a.csv"), "--plot", str(tmp_path / "a.svg")]
    assert main([*flags, "--rounds", "1", *files]) == 0
    assert capsys.readouterr().out.startswith(f"{name}")
    with (tmp_path / "a.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert (tmp_path / "a.svg").exists()
