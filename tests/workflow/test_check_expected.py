"""`make mini` fails where a value is outside its tolerance."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "scripts" / "tools" / "check_expected.py"


@pytest.fixture
def check(tmp_path):
    (tmp_path / "voc_table1.csv").write_text(
        "method,metric,paper,ours,note\nOurs (1 time),dCRF,74.4,70.3,\nOurs (1 time),Initial,72.7,,\n"
        "Ours (10 times),dCRF,76.1,,left out: make mini-all\n"
    )

    def call(*lines: str) -> subprocess.CompletedProcess:
        expected = tmp_path / "expected.csv"
        expected.write_text("\n".join(["target,method,metric,value,tolerance", *lines]) + "\n")
        return subprocess.run(
            [sys.executable, PROGRAM, expected, tmp_path], capture_output=True, text=True
        )

    return call


def test_a_value_within_its_tolerance_passes(check):
    done = check("voc_table1,Ours (1 time),dCRF,69.8,0.5", "voc_table6,none,mIoU,50,1")
    assert done.returncode == 0
    assert done.stdout.startswith("1 values are as expected")


def test_a_row_that_the_run_left_out_is_not_missed(check):
    done = check("voc_table1,Ours (1 time),dCRF,70,0.5", "voc_table1,Ours (10 times),dCRF,76,0.5")
    assert done.returncode == 0 and done.stdout.startswith("1 values")
    done = check("voc_table1,Ours (1 time),dCRF,70,0.5", "voc_table1,absent,dCRF,76,0.5")
    assert "absent, dCRF: not measured" in done.stderr


def test_nothing_to_compare_is_an_error(check):
    done = check("voc_table6,none,mIoU,50,1")
    assert done.returncode == 1 and "no table with a value" in done.stderr


def test_each_value_outside_is_one_line(check):
    done = check("voc_table1,Ours (1 time),dCRF,69.7,0.5", "voc_table1,Ours (1 time),Initial,60,1")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: voc_table1, Ours (1 time), dCRF: 70.3, expected 69.7 within 0.5",
        "error: voc_table1, Ours (1 time), Initial: not measured, expected 60",
    ]
