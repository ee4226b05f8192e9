"""The workflow of continuous integration: it runs .ci/run, on Python 3.11 and with a compiler."""

import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILE = ROOT / ".github/workflows/ci.yml"


@pytest.fixture(scope="module")
def workflow() -> dict:
    # BaseLoader: YAML's `on` would else be true
    return yaml.load(FILE.read_text(), yaml.BaseLoader)


def steps_of(workflow: dict) -> list[dict]:
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


def test_runs_on_push_and_pull_request(workflow):
    assert set(workflow["on"]) == {"push", "pull_request"}


def test_form(workflow):
    assert set(workflow) <= {"name", "on", "permissions", "concurrency", "env", "defaults", "jobs"}
    for name, job in workflow["jobs"].items():
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", name)
        assert job["runs-on"].startswith("ubuntu-")
        assert set(job) <= {"name", "runs-on", "needs", "timeout-minutes", "env", "steps"}
    for step in steps_of(workflow):
        assert ("uses" in step) != ("run" in step), step
        assert set(step) <= {"name", "id", "if", "uses", "with", "run", "env", "shell"}
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"])


def test_commands_are_shell(workflow):
    for step in steps_of(workflow):
        if "run" in step:
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


def test_runs_everything_after_the_setup(workflow):
    steps = steps_of(workflow)
    python = next(s for s in steps if s.get("uses", "").startswith("actions/setup-python@"))
    assert python["with"] == {
        "python-version": "3.11",
        "cache": "pip",
        "cache-dependency-path": "envs/requirements.lock",
    }
    assert (ROOT / python["with"]["cache-dependency-path"]).is_file()
    assert steps[0]["uses"].startswith("actions/checkout@")
    assert any("g++" in step.get("run", "") for step in steps)
    assert steps[-1]["run"] == "bash .ci/run" and (ROOT / ".ci/run").is_file()
