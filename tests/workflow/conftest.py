"""A clean checkout to plan in, and Snakemake to plan with."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """The repository without results, data or downloads, and with a model at mini scale."""
    for name in ("Snakefile", "workflow", "config", "scripts", "envs", "profiles"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    model = tmp_path / "assets" / "mini_sd"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (tmp_path / "assets" / "sprites").symlink_to(REPOSITORY / "assets" / "sprites")
    return tmp_path


@pytest.fixture
def snakemake(checkout):
    """Runs `snakemake` in the checkout: arguments -> the finished process."""

    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = [str(SNAKEMAKE), *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True)

    return call


@pytest.fixture
def plan(snakemake):
    """Plans, without running anything: arguments -> {rule: number of jobs}, and the output."""

    def call(*arguments: str) -> tuple[dict[str, int], str]:
        done = snakemake("-n", "-p", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        output = done.stdout + done.stderr
        block = output.split("Job stats:", 1)[1].split("total", 1)[0]
        return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", block, re.M)}, output

    return call
