"""A workflow of a few mini scenes that is killed, and the same command again."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from programs import content
from scenes import REPOSITORY, SCENES, SNAKEMAKE, command, few_scenes, finished_and_started
from test_kills import GRACE, KILLS

TABLE = "results/mini/voc_table1.csv"
# seconds after the first job of a rule began, within which it does not end
MOMENTS = {
    "build_mini_world": 0.7,
    "extract_attention": 3,
    "refine_masks": 1,
    "evaluate_masks": 0.3,
    "make_table": 0.7,  # its output is written, and not yet known to be finished
}


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
    run_again([target], folder, finished)


def run_again(targets: list[str], folder: Path, finished: set[str]) -> None:
    """The same command makes the targets, and nothing that is finished again."""
    before = {name: (folder / name).stat() for name in finished}
    again = subprocess.run(command(*targets), cwd=folder, capture_output=True, text=True)
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


# --- many light jobs: of the mini world, of masks that need no network, of their evaluation

WORLDS = ("voc", "cityscapes", "imagenet_s")
FOLDERS = [
    f"{split}/reference/{kind}"
    for split in ("train", "val", "dev")
    for kind in ("all_background", "random_labels")
]
LIGHT = [
    *(f"resources/mini/{name}.json" for name in WORLDS),
    *(f"work/mini/evaluation/masks/voc/{name}/metrics.json" for name in FOLDERS),
]
JOBS = {
    "build_mini_world": len(WORLDS),
    "make_reference_masks": len(FOLDERS),
    "evaluate_masks": len(FOLDERS),
}
RESULTS = ("resources/mini/**/*", "work/mini/masks/**/*", "work/mini/evaluation/**/*")


@pytest.fixture(scope="module")
def light(tmp_path_factory) -> tuple[Path, float]:
    """The folder of a run that nobody kills, and the seconds that a job took."""
    folder = few_scenes(tmp_path_factory.mktemp("light"), others=8, slow=False)
    begun = time.monotonic()
    done = subprocess.run(command(*LIGHT), cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, (time.monotonic() - begun) / len(LIGHT)


def stop_light(folder: Path, rule: str, draw: random.Random, second: float, number: int, alone: bool) -> tuple[str, int]:  # fmt: skip
    """Stop Snakemake, `alone` or with its process group, at a random moment of a job of a rule; what it
    logged, and its status."""
    log, wanted = folder / "log", draw.randint(2, JOBS[rule])
    with open(log, "w") as file:
        run = psutil.Popen(
            command(*LIGHT), cwd=folder, stdout=file, stderr=file, start_new_session=True
        )
    while len(re.findall(rf"^(?:local)?rule {rule}:", log.read_text(), re.M)) < wanted:
        assert run.poll() is None, log.read_text()
        time.sleep(0.02)
    time.sleep(draw.random() * second)
    started = run.children(recursive=True)
    (os.kill if alone else os.killpg)(run.pid, number)
    status = run.wait()
    _, left = psutil.wait_procs(started, timeout=10)
    assert not [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
    return log.read_text(), status


@pytest.mark.slow
@pytest.mark.parametrize("rule", JOBS)
@pytest.mark.parametrize("number", range(KILLS))
def test_a_workflow_killed_at_a_random_moment_ends_with_the_same_files(
    rule, number, light, tmp_path, record_property
):
    draw = random.Random(f"{rule} {number}")
    for attempt in range(20):
        folder = few_scenes(tmp_path / f"{attempt}", others=8, slow=False)
        log, _ = stop_light(folder, rule, draw, light[1], signal.SIGKILL, alone=number % 2 == 0)
        finished, _ = finished_and_started(log)
        if 1 <= len(finished) < sum(JOBS.values()):
            break
    run_again(LIGHT, folder, finished)
    assert content(folder, RESULTS) == content(light[0], RESULTS)
    record_property("kill", f"Snakemake and {rule}")
    record_property("resumed units", len(finished))


@pytest.mark.slow
@pytest.mark.parametrize("alone", [True, False])
def test_a_workflow_that_gets_sigterm_ends_and_goes_on(alone, light, tmp_path, record_property):
    """Alone, Snakemake waits for the jobs at work; a cluster sends it to these, too."""
    folder = few_scenes(tmp_path, others=8, slow=False)
    begun = time.monotonic()
    log, status = stop_light(
        folder, "make_reference_masks", random.Random(0), light[1], signal.SIGTERM, alone
    )
    assert status != 0 and time.monotonic() - begun < GRACE + len(LIGHT) * light[1]
    run_again(LIGHT, folder, finished_and_started(log)[0])
    assert content(folder, RESULTS) == content(light[0], RESULTS)
    record_property("SIGTERMs", 1)


RULES = (REPOSITORY / "workflow/rules/common.smk").read_text()
(PREFIX,) = re.findall(r"^shell\.prefix\(.*\)$", RULES, re.M)
TOY = f"""
import sys
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
from attnseg.io.runs import guard
guard(workflow, "work")
{PREFIX}

rule train:
    output: "work/weights"
    log: "work/logs/train.log"
    shell: "{sys.executable} program.py > {{log}} 2>&1"
"""
PROGRAM = f"""
import sys, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY / "scripts")!r})
from attnseg.errors import run, sigterm_waits

def main():
    with sigterm_waits() as ended:
        Path("begun").touch()
        for _ in range(200):
            time.sleep(0.1)
            if ended():
                time.sleep(2)  # a large checkpoint
                Path("checkpoint").touch()
                break
    return 0

sys.exit(run(main))
"""


def test_a_job_s_shell_waits_for_the_checkpoint_after_sigterm(tmp_path):
    (tmp_path / "Snakefile").write_text(TOY)
    (tmp_path / "program.py").write_text(PROGRAM)
    words = [str(SNAKEMAKE), "--cores", "1"]
    run = psutil.Popen(words, cwd=tmp_path, start_new_session=True)
    while not (tmp_path / "begun").exists():
        assert run.poll() is None
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)
    assert run.wait(300) != 0
    assert (tmp_path / "checkpoint").exists()
    said = (tmp_path / "work/logs/train.log").read_text()
    assert said.startswith("ended by SIGTERM") and len(said.splitlines()) == 1
