"""What the whole paper scale costs, by Snakemake's plan."""

import csv
import io
import os
import subprocess
import sys
from math import ceil
from pathlib import Path

import pytest

from attnseg.config.reading import read_config
from attnseg.results.costs import Cost, estimate

REPOSITORY = Path(__file__).resolve().parents[2]
TOOL = REPOSITORY / "scripts" / "tools" / "estimate_cost.py"


@pytest.fixture(scope="module")
def everything(checkout) -> dict[str, Cost]:
    config = read_config(REPOSITORY / "config/config.yaml")
    found = estimate(["all_tables"], config, [], checkout)
    assert found.left is None and not found.measured  # nothing has run there
    return found.rows


def test_the_whole_costs_what_the_audit_of_the_paper_scale_says(everything):
    whole = everything["together"]
    assert 420 / 1.5 < whole.gpu / 3600 < 520 * 1.5  # without and with BECO's 421,698 iterations
    assert 100 / 1.5 < whole.disk / 1e9 < 110 * 1.5
    second = ceil(82081 / 200)  # of COCO, for the rows of the authors' profile: not in the audit
    assert 1500 / 1.5 < whole.jobs < 1500 * 1.5 + second


def test_each_target_has_the_jobs_that_snakemake_plans_for_it_alone(everything, plan):
    jobs, _ = plan("results/voc_table3.csv", "--cores", "all")
    assert everything["voc_table3"].jobs == sum(jobs.values())
    jobs, _ = plan("all_tables", "--cores", "all", "--resources", "gpu=2")
    assert everything["together"].jobs == sum(jobs.values())
    assert everything["together"].jobs < sum(cost.jobs for cost in everything.values())


def test_the_program_prints_the_mini_scale_as_csv_and_refuses_a_wrong_target():
    def call(*arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, TOOL, *arguments], capture_output=True, text=True, cwd="/",
            env=os.environ | {"PYTHONPATH": ""},
        )  # fmt: skip

    mini = ("--configfile", str(REPOSITORY / "config/mini.yaml"))
    done = call("voc_table1", "voc_table5", "--csv", *mini)
    assert done.returncode == 0, done.stderr
    rows = {row["target"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert {"voc_table1", "voc_table5", "together"} <= set(rows)
    assert rows["voc_table1"]["GPU hours"] == "0" and int(rows["together"]["jobs"]) > 10
    wrong = call("voc_tabel1", *mini)
    assert wrong.returncode == 1
    assert (
        wrong.stderr.startswith("error: voc_tabel1 is not a target")
        and wrong.stderr.count("\n") == 1
    )
