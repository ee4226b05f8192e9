"""A run of a few mini scenes that is killed, and the same command again."""

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SNAKEMAKE = Path(sys.executable).with_name("snakemake")
SCENES = 60  # of train
TABLE = "results/mini/voc_table1.csv"
# seconds after the first job of a rule began, within which it does not end
MOMENTS = {
    "build_mini_world": 0.7,
    "extract_attention": 3,
    "refine_masks": 1,
    "evaluate_masks": 0.3,
    "make_table": 0.7,  # its output is written, and not yet known to be finished
}


def command(target: str) -> list[str]:
    """As the README has it."""
    return [str(SNAKEMAKE), target, "--cores", "all", "--configfile", "config/mini.yaml"]


def few_scenes(folder: Path) -> Path:
    """A copy of the workflow: mini VOC has few scenes, and programs take a second to end."""
    for name in ("workflow", "config", "scripts", "profiles"):
        shutil.copytree(REPOSITORY / name, folder / name)
    for name in ("Snakefile", "envs", "assets"):
        (folder / name).symlink_to(REPOSITORY / name)
    splits = folder / "scripts/attnseg/mini/world/splits.py"
    source, config = splits.read_text(), folder / "config/mini.yaml"
    settings = yaml.safe_load(config.read_text())
    for name in settings["datasets"]["voc"]["splits"]:
        count = SCENES if name.startswith("train") else 1
        source, changed = re.subn(rf'("{name}": \(\d), \d+\)', rf"\1, {count})", source)
        assert changed == 1
        settings["datasets"]["voc"]["splits"][name]["images"] = count
    settings["extraction"]["batch_size"] = 4
    splits.write_text(source)
    errors = folder / "scripts/attnseg/errors.py"
    source = errors.read_text()
    assert "        return main()\n" in source
    slow = "        status = main()\n        __import__('time').sleep(1)\n        return status\n"
    errors.write_text(source.replace("        return main()\n", slow))
    config.write_text(yaml.safe_dump(settings))
    return folder


def finished_and_started(log: str) -> tuple[set[str], set[str]]:
    """The first outputs of the jobs that a log of Snakemake says are finished, and are started."""
    outputs = {}
    for block in re.findall(r"^(?:local)?rule \w+:\n((?: +.*\n)+)", log, re.M):
        number = re.search(r"^ +jobid: (\d+)", block, re.M)[1]
        outputs[number] = re.search(r"^ +output: ([^\s,]+)", block, re.M)[1]
    done = re.findall(r"^Finished jobid: (\d+)", log, re.M)
    return {outputs[number] for number in done}, set(outputs.values())


def kill_during(rule: str, target: str, folder: Path) -> str:
    """Make a target, kill Snakemake alone during a job of a rule, and return what it logged."""
    log = folder / "log"
    with open(log, "w") as file:
        run = psutil.Popen(command(target), cwd=folder, stdout=file, stderr=file)
    while f"rule {rule}:" not in log.read_text():
        assert run.poll() is None, log.read_text()
        time.sleep(0.02)
    time.sleep(MOMENTS[rule])
    started = run.children(recursive=True)
    run.kill()
    run.wait()
    _, left = psutil.wait_procs(started, timeout=2)
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
    return log.read_text()


def kill_and_run_again(target: str, rule: str, folder: Path) -> None:
    """Make a target with a kill in between, and check that nothing finished is made again."""
    finished, started = finished_and_started(kill_during(rule, target, folder))
    assert started - finished, "no job was at work"
    before = {name: (folder / name).stat() for name in finished}

    again = subprocess.run(command(target), cwd=folder, capture_output=True, text=True)
    log = again.stdout + again.stderr
    assert again.returncode == 0, log
    assert not finished & finished_and_started(log)[1]
    for name, stat in before.items():
        after = (folder / name).stat()
        assert (stat.st_ino, stat.st_mtime_ns) == (after.st_ino, after.st_mtime_ns), name


def test_a_killed_run_goes_on_where_it_stopped(tmp_path):
    target = "work/mini/masks/voc/train/one_noise/none/manifest.json"
    kill_and_run_again(target, "extract_attention", few_scenes(tmp_path))
    assert len(list((tmp_path / target).parent.glob("2012_*.png"))) == SCENES


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> bytes:
    """Table 1 of a run that nobody kills."""
    folder = few_scenes(tmp_path_factory.mktemp("uninterrupted"))
    done = subprocess.run(command(TABLE), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / TABLE).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("rule", MOMENTS)
def test_a_run_killed_at_any_moment_ends_with_the_same_table(rule, uninterrupted, tmp_path):
    kill_and_run_again(TABLE, rule, few_scenes(tmp_path))
    assert (tmp_path / TABLE).read_bytes() == uninterrupted
