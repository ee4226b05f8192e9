"""What a job costs is measured by the job, and added up along what jobs read and wrote."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from attnseg.io import costs

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
JOB = """
import sys, time
from pathlib import Path
from attnseg.errors import run

def main():
    block = bytearray({mib} << 20)
    block[::4096] = b"x" * len(block[::4096])
    time.sleep({seconds})
    Path(sys.argv[2]).write_text("made")
    return {status}

sys.exit(run(main))
"""


def job(folder: Path, rule: str, arguments: list[str], seconds=0.2, mib=1, status=0) -> int:
    """Run a job as the workflow does: its words go to the log of its rule."""
    log = folder / "work/logs" / rule / "a.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    program = folder / f"{rule}.py"
    program.write_text(JOB.format(seconds=seconds, mib=mib, status=status))
    with open(log, "w") as file:
        return subprocess.run(
            [sys.executable, str(program), *arguments],
            cwd=folder, stdout=file, stderr=file, env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
        ).returncode  # fmt: skip


def test_a_job_leaves_a_record_beside_its_log(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work/in.json").write_text("{}")
    arguments = ["--output", "work/out.json", "--masks=work/in.json", '{"weights": "work/in.json"}']
    assert job(tmp_path, "make", arguments, seconds=0.4, mib=200) == 0
    record = json.loads((tmp_path / "work/benchmarks/make/a.json").read_text())
    assert record["wrote"] == ["work/out.json"] and set(record["read"]) == {"work/in.json"}
    (attempt,) = record["attempts"]
    assert 0.4 <= attempt["seconds"] < 10 and 200 < attempt["peak_mib"] < 400


def test_the_memory_of_what_starts_a_job_is_not_the_job_s(tmp_path):
    (tmp_path / "work").mkdir()
    block = bytearray(300 << 20)
    block[::4096] = b"x" * len(block[::4096])
    assert job(tmp_path, "make", ["--output", "work/out.json"], mib=50) == 0
    (attempt,) = json.loads((tmp_path / "work/benchmarks/make/a.json").read_text())["attempts"]
    assert 50 < attempt["peak_mib"] < 200


def test_failed_attempts_count_and_another_command_begins_anew(tmp_path):
    (tmp_path / "work").mkdir()
    arguments = ["--output", "work/out.json"]
    assert job(tmp_path, "make", arguments, status=1) == 1
    assert job(tmp_path, "make", arguments) == 0
    path = tmp_path / "work/benchmarks/make/a.json"
    assert len(json.loads(path.read_text())["attempts"]) == 2
    (found,) = costs.read_jobs(tmp_path / "work/benchmarks")
    assert found.rule == "make" and found.seconds >= 0.4
    assert job(tmp_path, "make", [*arguments, "--seed", "1"]) == 0
    assert len(json.loads(path.read_text())["attempts"]) == 1


def test_a_killed_attempt_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "INTERVAL", 0.05)
    path = tmp_path / "record.json"
    with costs.recorded(["program", "--output", "a/b"], path):
        deadline = time.monotonic() + 5
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert json.loads(path.read_text())["attempts"][0]["seconds"] > 0


def test_outside_the_workflow_nothing_is_recorded(tmp_path):
    program = tmp_path / "make.py"
    program.write_text(JOB.format(seconds=0, mib=1, status=0))
    subprocess.run(
        [sys.executable, str(program), "--output", str(tmp_path / "out")],
        check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(SCRIPTS)},
    )  # fmt: skip
    assert not list(tmp_path.rglob("benchmarks"))


def made(rule: str, wrote: list[str], read: list[str], seconds: float = 1.0) -> costs.Job:
    return costs.Job(rule, seconds, seconds, 10.0, tuple(read), tuple(wrote))


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """Two shards -> their manifest -> masks -> metrics; and a job that has nothing to do with it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "attention").mkdir()
    return [
        made("extract", ["attention/0.safetensors"], ["model/unet.json"]),
        made("extract", ["attention/1.safetensors"], ["model/unet.json"]),
        made(
            "verify",
            ["attention/manifest.json"],
            ["attention/0.safetensors", "attention/1.safetensors"],
        ),  # fmt: skip
        made("refine", ["masks/crf"], ["attention"]),
        made("evaluate", ["evaluation/crf"], ["masks/crf"]),
        made("refine", ["masks/none"], ["attention"]),
    ]


def test_the_jobs_behind_a_file_are_found_each_once(chain):
    behind = costs.jobs_behind(["evaluation/crf/metrics.json"], chain)
    assert [job.rule for job in behind] == ["extract", "extract", "verify", "refine", "evaluate"]
    assert costs.jobs_behind(["evaluation/none/metrics.json"], chain) == []


def test_unreadable_records_are_left_out(tmp_path):
    folder = tmp_path / "benchmarks/extract"
    folder.mkdir(parents=True)
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text('{"attempts": []}')
    assert costs.read_jobs(tmp_path / "benchmarks") == []
