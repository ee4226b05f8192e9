"""A clean checkout to plan in, and Snakemake to plan with."""

import argparse
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Path:
    """The repository without results, data or downloads, and with a model at mini scale.

    Shared: files may be added, under names of their own.
    """
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "workflow", "config", "scripts", "envs", "profiles"):
        (folder / name).symlink_to(REPOSITORY / name)
    model = folder / "assets" / "mini_sd"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    (folder / "assets" / "sprites").symlink_to(REPOSITORY / "assets" / "sprites")
    return folder


@pytest.fixture(scope="session")
def snakemake(checkout):
    """Runs `snakemake` in the checkout: arguments -> the finished process."""

    def call(*arguments: str) -> subprocess.CompletedProcess:
        command = [str(SNAKEMAKE), *arguments]
        return subprocess.run(command, cwd=checkout, capture_output=True, text=True)

    return call


@pytest.fixture(scope="session")
def plan(snakemake):
    """Plans, without running anything: arguments -> {rule: number of jobs}, and the output."""
    outputs: dict[tuple[str, ...], str] = {}

    def call(*arguments: str) -> tuple[dict[str, int], str]:
        if arguments not in outputs:
            done = snakemake("-n", "-p", *arguments)
            assert done.returncode == 0, done.stdout + done.stderr
            outputs[arguments] = done.stdout + done.stderr
        output = outputs[arguments]
        block = output.split("Job stats:", 1)[1].split("total", 1)[0]
        return {m[1]: int(m[2]) for m in re.finditer(r"^(\w+) +(\d+)$", block, re.M)}, output

    return call


class Taken(Exception):
    """A parser took the arguments."""


@pytest.fixture(scope="session")
def takes():
    """Checks that a function parses arguments: main, arguments."""

    def parse_only(parser, *arguments, **options):
        parse(parser, *arguments, **options)
        raise Taken

    def call(main, arguments: list[str]) -> None:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Taken):
            patch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
            main(arguments)

    parse = argparse.ArgumentParser.parse_args
    return call


@pytest.fixture(scope="session")
def scripts_of(takes):
    """The scripts that a plan runs, each of which takes its flags: output -> their names."""

    def call(output: str) -> set[str]:
        commands = {}
        for script, rest in re.findall(r"python scripts/(\w+)\.py (.*?) > ", output):
            arguments = shlex.split(rest)
            given = (word for word in arguments if word.startswith("--"))
            commands[(script, *given)] = arguments
        for (script, *_), arguments in commands.items():
            takes(importlib.import_module(script).main, arguments)
        return {script for script, *_ in commands}

    return call


@pytest.fixture(scope="session")
def extra(plan):
    """Checks that results are among all tables at mini scale, and neither they nor the rules that
    make them among what is made by default."""

    def check(results: Iterable[str], rules: Iterable[str]) -> None:
        mini = ("--cores", "2", "--configfile", "config/mini.yaml")
        _, every = plan("all_tables", *mini)
        jobs, default = plan(*mini)
        for result in results:
            assert f"results/mini/{result}" in every
            assert result not in default
        assert not set(rules) & set(jobs)

    return check


@pytest.fixture
def run_own(tmp_path):
    """Runs the workflow in the test's folder, over the paper's configuration: own settings, targets -> the process."""

    def call(configuration: dict, *targets: str) -> subprocess.CompletedProcess:
        own = tmp_path / "own.yaml"
        own.write_text(yaml.safe_dump(configuration))
        command = [
            SNAKEMAKE, *targets, "--snakefile", REPOSITORY / "Snakefile", "--directory", tmp_path,
            "--cores", "1", "--configfile", REPOSITORY / "config" / "config.yaml", own,
        ]  # fmt: skip
        return subprocess.run(list(map(str, command)), capture_output=True, text=True)

    return call


@pytest.fixture
def job_logs(tmp_path):
    """The logs of all jobs that `run_own` has run so far."""

    def call() -> str:
        return "\n".join(log.read_text() for log in (tmp_path / "work/logs").rglob("*.log"))

    return call
